"""How much a run may take, in device hours or in money, all of its calls together: it stops before it would take more.

A run is stopped between two units of work, with everything committed that was paid for; the same command with a larger
budget continues. What was spent is what the ledger says, so a run that is killed and begun again does not begin to
count anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import PrefmillError
from .ledger import DeviceLedger, StageTime, totals


class BudgetSpent(PrefmillError):
    """The next unit would take more than there is; everything before it is committed."""


@dataclass(frozen=True)
class Budget:
    """`limit` in device hours where `price` (of one of them) is None, else in the price's currency."""

    limit: float
    price: float | None = None

    @classmethod
    def of(cls, money: float | None, hours: float | None, price: float | None) -> Budget | None:
        """Return the budget that a user named, None where none was.

        Raises PrefmillError for both at once, for one that is no amount, and for money without a price.
        """
        if money is not None and hours is not None:
            raise PrefmillError("--budget and --budget-hours were both given", "give one of them")
        name, limit = ("--budget", money) if money is not None else ("--budget-hours", hours)
        if limit is None:
            return None
        if not 0 < limit < float("inf"):
            raise PrefmillError(f"{name} {limit:g} is no amount that could be spent", f"give {name} a number above 0")
        if money is not None and not price:
            raise PrefmillError(
                "--budget is money, and the price of a device hour is not known",
                "add --price 2.5, say, or limit the hours with --budget-hours",
            )
        return cls(limit, price if money is not None else None)

    def spent(self, time: StageTime) -> float:
        """Return what device time took of the budget; answers of servers are paid for in money alone."""
        if self.price is None:
            return time.seconds / 3600
        return time.seconds / 3600 * self.price + (time.usage.cost or 0.0 if time.usage else 0.0)

    def amount(self, value: float) -> str:
        """Return an amount of the budget as people read it."""
        return f"{value:.4g}{' device hours' if self.price is None else ''}"


class Purse:
    """A budget in use: what is left of it while a run goes on."""

    def __init__(self, budget: Budget, ledger: DeviceLedger) -> None:
        self.budget, self.ledger = budget, ledger
        self.before = sum(budget.spent(time) for time in totals(ledger).values()) - budget.spent(ledger.added)
        """Spent before this ledger was opened."""

    def require(self, stage: str, seconds: float, *, pending: float = 0.0) -> None:
        """Raise BudgetSpent where `seconds` more of a stage do not fit.

        `pending`: device seconds that were taken and are not in the ledger yet.
        """
        spent = self.before + self.budget.spent(self.ledger.added)
        left = self.budget.limit - spent - self.budget.spent(StageTime(work=pending))
        needed = self.budget.spent(StageTime(work=seconds))
        if left <= 0 or needed > left:
            amount, limit = self.budget.amount, self.budget.limit
            told = f"the budget of {amount(limit)} is spent"
            if left > 0:
                told = f"the next unit of {stage} takes about {amount(needed)}, and the budget of {amount(limit)} has "
                told += f"{amount(left)} left"
            raise BudgetSpent(
                f"{told}: stopped before {stage}, with everything before it committed",
                "give the same command with a larger budget, or without one, to continue",
            )
