"""The names of the store's keys, except those of leases (see `gateway.stores.redis.leases`).

All have one hash tag, so that a cluster keeps them on one node, and one script can write several of
them. Nothing ever searches for keys: other keys list them.

    meta            hash: schema, epoch, confirmed (epoch), born and generation (of the directory),
                    clock, clock_wall, audit (the last number), check:NAME,
                    importing (only during an import)
    refused         a mark for a minute: a gateway with another epoch was refused
    accounts        hash by name: 16 bytes of stamp, then the account
    due             sorted set: account names by their earliest lease
    operations      hash by record name: 8 bytes of stamp, then the operations
    operation_ends  sorted set: record names by their ends
    operations_bought     sorted set: of these, the records that a full store may forget, in order
    gateways        sorted set: gateways with running operations, by the ends of their leases
    teams           hash by name
    keys, states, ends     hashes by id: the key, its state, its grace end
    changed         sorted set: "t:TEAM" and "k:KEY" by generation
    uses            sorted set: key ids by last use
    audit           sorted set: a number and an audit entry, by time
    claims, claim_ends     hash by name: claims; sorted set: names by their ends
    hours           sorted set: the hours since 1970 whose sums are not packed yet
    usage:HOUR      hash: which sum and its group -> the sum
    packed          sorted set: the hours that have a pack
    hour:HOUR, day:DAY, week:WEEK     hashes, packs: "t" and a team -> its sums; all; version
    purchases:HOUR, hits:HOUR     hashes by entry id: the numbers to subtract when it is replaced
    unknown         hash by purchase id: "u" (charged as unknown) or "r" (refunded), then the record
    unknown_at      sorted set: ids of these records by the time of the reservation
    activity:RING   sorted set by text: recent requests, each after its place
    errors:DAY      hash: hour and kind of error -> how often, and the last one
    latency         hash by hour since 1970: the numbers of an HourLatency
    picture:SHA256  hash by purchase id: who bought this picture; expires with usage
    written:WRITER  the last batch that this gateway wrote, for a day
"""

_TAG = "{gateway}:"

META = f"{_TAG}meta"
REFUSED = f"{_TAG}refused"
ACCOUNTS = f"{_TAG}accounts"
DUE = f"{_TAG}due"
OPERATIONS = f"{_TAG}operations"
OPERATION_ENDS = f"{_TAG}operation_ends"
OPERATIONS_BOUGHT = f"{_TAG}operations_bought"
GATEWAYS = f"{_TAG}gateways"
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
UNKNOWN = f"{_TAG}unknown"
UNKNOWN_AT = f"{_TAG}unknown_at"


def usage(hour: int) -> str:
    """The sums of an hour since 1970 that are not packed yet."""
    return f"{_TAG}usage:{hour}"


def purchases(hour: int) -> str:
    """The purchases of an hour by id."""
    return f"{_TAG}purchases:{hour}"


def hits(hour: int) -> str:
    """The hits of an hour by id."""
    return f"{_TAG}hits:{hour}"


def unpacked(hour: int) -> tuple[str, str, str]:
    """The keys of an hour other than its packs: sums, purchases and hits."""
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


def picture(sha256: str) -> str:
    """The purchases that bought a picture."""
    return f"{_TAG}picture:{sha256}"


def written(writer: str) -> str:
    """The last batch of a writer of recent requests."""
    return f"{_TAG}written:{writer}"
