"""What tests write of entries without the rules of an administrator's change."""

from dataclasses import replace

from app.catalog.ports import Change


def write(transaction, model, before=None):
    """Store `model` in place of `before`, and return it with its revision."""
    return replace(model, revision=transaction.write([Change(before, model)]))
