"""Automatic debits: one that works, one that never does, and one that needs a third attempt."""

from __future__ import annotations

from decimal import Decimal

from bgjobs import current_job

ATTEMPTS_WHILE_DOWN = 2


class PaymentDeclined(Exception):  # noqa: N818 - the name a person looks for in the error log
    """The bank said no. It may say yes once the account is topped up, so another attempt is worth it."""


class GatewayDown(ConnectionError):  # noqa: N818 - the name a person looks for in the error log
    """The payment gateway did not answer."""


class BackgroundJobs:
    """Debit an account. `bgjobs submit BackgroundJobs automatic_debit_success 1000 rent` gives 1000 as a Decimal."""

    def automatic_debit_success(self, amount: Decimal, purpose: str) -> dict[str, str]:
        """Debit the amount; what is returned is the result that `bgjobs status` shows."""
        return _debit(amount, purpose)

    def automatic_debit_failure(self, amount: Decimal, purpose: str) -> None:
        """Fail each time: the job ends in `failed` when no attempt is left."""
        _check(amount)
        raise PaymentDeclined(f"the bank declined {amount} for {purpose}")

    def automatic_debit_failures_then_success(self, amount: Decimal, purpose: str) -> dict[str, str]:
        """Fail on the first and the second attempt, and succeed on the third."""
        attempt = current_job().attempt
        if attempt <= ATTEMPTS_WHILE_DOWN:
            raise GatewayDown(f"the gateway did not answer (attempt {attempt})")
        return _debit(amount, purpose)


def _debit(amount: Decimal, purpose: str) -> dict[str, str]:
    _check(amount)
    print(f"debited {amount} for {purpose}")
    return {"debited": str(amount), "purpose": purpose}


def _check(amount: Decimal) -> None:
    # An amount that comes as JSON is a plain number: run_background_job(..., [1000, "rent"]).
    if not Decimal(amount) > 0:
        raise ValueError(f"cannot debit {amount}: the amount must be more than zero")
