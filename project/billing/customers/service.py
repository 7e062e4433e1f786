"""Customers: one row per kind and reference, whoever names them first."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Text, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from project.billing.models import Customer
from project.billing.providers.registry import DEFAULT_PROVIDER
from project.core import clock
from project.core.db import bulk
from project.core.db.models import Timestamp
from project.core.errors import BadRequest, NotFound
from project.extensions import db

COMPANY = "company"
EXTERNAL = "external"
KINDS = (COMPANY, EXTERNAL, "msisdn")


def ensure_customer(
    kind: str,
    reference: str,
    *,
    provider: str = DEFAULT_PROVIDER,
    payment_method_id: str | None = None,
) -> Customer:
    """Return the customer of this kind and reference, made if need be."""
    db.session.execute(
        insert(Customer)
        .values(
            kind=kind,
            reference=reference,
            provider=provider,
            payment_method_id=payment_method_id,
            created_at=clock.now(),
        )
        .on_conflict_do_nothing(index_elements=["kind", "reference"])
    )
    return db.session.scalars(
        select(Customer).where(Customer.kind == kind, Customer.reference == reference)
    ).one()


def ensure_customers(
    kind: str, references: Sequence[str], *, provider: str, pay_by_reference: bool = False
) -> dict[str, int]:
    """Return the ids of the customers of this kind by reference, made if need be.

    `pay_by_reference`: the reference itself, such as a phone number, is what they pay with. The
    references are sorted, so that two who make the same ones wait for each other in line.
    """
    ordered = sorted(set(references))
    given = func.unnest(bulk.text_array(ordered)).column_valued("reference")
    made = db.session.execute(
        insert(Customer)
        .from_select(
            ["kind", "reference", "provider", "payment_method_id", "created_at"],
            select(
                literal(kind, Text()),
                given,
                literal(provider, Text()),
                given if pay_by_reference else literal(None, Text()),
                literal(clock.now(), Timestamp),
            ),
        )
        .on_conflict_do_nothing(index_elements=["kind", "reference"])
        .returning(Customer.reference, Customer.id)
    )
    ids = {row.reference: row.id for row in made}
    there = [reference for reference in ordered if reference not in ids]
    if there:
        ids |= _customer_ids(kind, there)
    return ids


def _customer_ids(kind: str, references: Sequence[str]) -> dict[str, int]:
    found = db.session.execute(
        select(Customer.reference, Customer.id).where(
            Customer.kind == kind, Customer.reference == func.any(bulk.text_array(references))
        )
    )
    return {row.reference: row.id for row in found}


def of_kind(kind: str, customer_ids: Collection[int]) -> set[int]:
    """Return those of the customers that are of this kind."""
    found = select(Customer.id).where(Customer.id.in_(customer_ids), Customer.kind == kind)
    return set(db.session.scalars(found))


def lock_customers(customer_ids: Collection[int]) -> None:
    """Have what is begun for these customers wait for each other, until the transaction's end.

    Others may refer to them meanwhile: a charge that begins now writes a payment.
    """
    db.session.execute(
        select(Customer.id)
        .where(Customer.id.in_(customer_ids))
        .order_by(Customer.id)
        .with_for_update(key_share=True)
    )


def existing_customer(customer_id: int | None) -> Customer:
    """Return the customer. Raises NotFound."""
    customer = db.session.get(Customer, customer_id or 0)
    if customer is None:
        raise NotFound(f"There is no customer {customer_id}.")
    return customer


def known_customers(written: Iterable[str]) -> dict[str, Customer]:
    """Return the customers that are there of those written as `kind:reference`."""
    parted = {name: tuple(name.split(":", 1)) for name in written if ":" in name}
    found = db.session.scalars(
        select(Customer).where(tuple_(Customer.kind, Customer.reference).in_(parted.values()))
    )
    by_parts = {(customer.kind, customer.reference): customer for customer in found}
    return {name: by_parts[parts] for name, parts in parted.items() if parts in by_parts}


def customer_named(written: str) -> Customer:
    """Return the customer written as `kind:reference`; without a kind it is external.

    Raises BadRequest for a kind that is not known.
    """
    kind, colon, reference = written.partition(":")
    if not colon:
        kind, reference = EXTERNAL, written
    if kind not in KINDS or not reference or len(reference) > 200:
        raise BadRequest(
            "A customer is written as kind:reference.",
            {"customer": [f"The kind is one of {', '.join(KINDS)}."]},
        )
    if kind != EXTERNAL:
        found = db.session.scalars(
            select(Customer).where(Customer.kind == kind, Customer.reference == reference)
        ).one_or_none()
        if found is None:
            raise BadRequest(f"There is no {kind} {reference}.", {"customer": ["Not known."]})
        return found
    return ensure_customer(kind, reference)
