"""What every change needs: the transaction of its author, whose key is checked once more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.catalog import keys
from app.catalog.errors import InvalidKey
from app.catalog.keys import ApiKey
from app.catalog.ports import Actor, Transaction, Writer


@dataclass(frozen=True, slots=True)
class Transactions:
    """Changes that are written to `store` at the time of `clock` (Unix seconds)."""

    store: Writer
    clock: Callable[[], float]

    @contextmanager
    def _transaction(self, actor: Actor, now: int) -> Iterator[tuple[Transaction, ApiKey | None]]:
        """Open a transaction for `actor`; give with it the actor's key, None if it needs none.

        The guard has accepted the key, but it may have been revoked while the write waited for
        others; a failover or a restore may have lost it.
        """
        with self.store.transaction(actor=actor, now=now) as transaction:
            if actor.kid is None:
                yield transaction, None
                return
            acting = transaction.key(actor.kid)
            if acting is None or not acting.is_accepted(now):
                state = "unknown" if acting is None else acting.state(now)
                raise InvalidKey(keys.mask(f"ro_{actor.kid}_"), state, actor.kid)
            yield transaction, acting
