"""The step that refunds a purchase: it takes an unknown charge back.

Only a purchase with a record of an unknown charge can be refunded. The store writes the refund only
if that record and the account are still what the step was decided on.
"""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from gateway.quota.account import EMPTY, GATEWAY, recharge_hold, team_account
from gateway.quota.holds import for_both
from gateway.quota.purchase import KeptEntry, Purchase, Refunded, charged_entry
from gateway.quota.step import NO_RECORDS, Accounts, Records, StepResult


class Refund(Struct, frozen=True, kw_only=True):
    """Takes back the charge of an unknown purchase, in the periods of its reservation.

    If the purchase was swept, its outcome may still arrive. It then finds that nothing is charged,
    and charges what was delivered.
    """

    purchase: Purchase
    refunded: Refunded
    record: ClassVar[str] = ""

    @property
    def accounts(self) -> tuple[str, ...]:
        own = team_account(self.purchase.team)
        return (own, GATEWAY) if self.purchase.in_gateway else (own,)

    def apply(
        self, accounts: Accounts, now: float, records: Records = NO_RECORDS
    ) -> StepResult[Purchase]:
        purchase, hold = self.purchase, self.purchase.hold
        own = team_account(purchase.team)
        account = for_both(recharge_hold, accounts.get(own, EMPTY), hold, 0, 0)
        if (swept := account.swept.get(purchase.id)) is not None:
            nothing = replace(swept, images=0, cost=0)
            account = replace(account, swept={**account.swept, purchase.id: nothing})
        # Written even if its periods are over: its version decides which of two refunds wins.
        changes = {own: account}
        if purchase.in_gateway:
            changes[GATEWAY] = recharge_hold(accounts.get(GATEWAY, EMPTY), hold, 0, 0)
        done = replace(purchase, state="refunded", refunded=self.refunded)
        nothing_charged = replace(
            charged_entry(purchase), outcome="failed", images_bought=0, images_unknown=0, cost=0
        )
        entry = KeptEntry(**asdict(nothing_charged), purchase=done)
        return StepResult(changes, done, (entry,))
