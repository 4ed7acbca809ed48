"""The keys of the store. All have one hash tag, so that a cluster keeps them on one node and one
script may write several of them. None is ever looked for: what there is, is listed in another.

    meta            hash: schema, epoch, confirmed (epoch), born and generation (of the directory),
                    clock, clock_wall, audit (the last number), check:NAME,
                    importing (only while that is under way)
    refused         a mark, for a minute: a gateway of another epoch was refused
    accounts        hash by name: 16 bytes of stamp, then the account
    due             sorted set: account names by their first lease
    teams           hash by name
    keys, states, ends     hashes by id: the key, its state, when its grace ends
    changed         sorted set: "t:TEAM" and "k:KEY" by generation
    uses            sorted set: key ids by last use
    audit           sorted set: a number and a log entry by its time
    claims, claim_ends     hash by name: a claim; sorted set: names by their ends
    hours           sorted set: the hours since 1970 that have sums which are in no pack yet
    usage:HOUR      hash: which sum and of what -> the sum
    packed          sorted set: the hours that have a pack
    hour:HOUR, day:DAY, week:WEEK     hashes, packs: "t" and a team -> its sums; all; version
    purchases:HOUR, hits:HOUR     hashes by entry id: what an entry has added, to take it back
    activity:RING   sorted set by text: recent requests, their places first
    errors:DAY      hash: what went wrong in which hour of the day -> how often, when and where last
    latency         hash by hour since 1970: numbers
    written:WRITER  the last batch of recent requests that this gateway wrote, for a day
"""

_TAG = "{gateway}:"

META = f"{_TAG}meta"
REFUSED = f"{_TAG}refused"
ACCOUNTS = f"{_TAG}accounts"
DUE = f"{_TAG}due"
TEAMS = f"{_TAG}teams"
KEYS = f"{_TAG}keys"
STATES = f"{_TAG}states"
ENDS = f"{_TAG}ends"
CHANGED = f"{_TAG}changed"
USES = f"{_TAG}uses"
AUDIT = f"{_TAG}audit"
HOURS = f"{_TAG}hours"
CLAIMS = f"{_TAG}claims"
CLAIM_ENDS = f"{_TAG}claim_ends"
PACKED = f"{_TAG}packed"
LATENCY = f"{_TAG}latency"


def usage(hour: int) -> str:
    """The sums of an hour since 1970 that are in no pack."""
    return f"{_TAG}usage:{hour}"


def purchases(hour: int) -> str:
    """The purchases of an hour by id."""
    return f"{_TAG}purchases:{hour}"


def hits(hour: int) -> str:
    """The hits of an hour by id."""
    return f"{_TAG}hits:{hour}"


def kept(hour: int) -> tuple[str, str, str]:
    """What an hour has besides its packs: sums, purchases and hits."""
    return usage(hour), purchases(hour), hits(hour)


def hour_pack(hour: int) -> str:
    """The pack of an hour since 1970."""
    return f"{_TAG}hour:{hour}"


def day_pack(day: int) -> str:
    """The pack of a day since 1970."""
    return f"{_TAG}day:{day}"


def week_pack(week: int) -> str:
    """The pack of seven days since 1970."""
    return f"{_TAG}week:{week}"


def activity(ring: str) -> str:
    """The recent requests of a ring."""
    return f"{_TAG}activity:{ring}"


def errors(day: int) -> str:
    """The errors of a day since 1970."""
    return f"{_TAG}errors:{day}"


def written(writer: str) -> str:
    """The last batch of a writer of recent requests."""
    return f"{_TAG}written:{writer}"
