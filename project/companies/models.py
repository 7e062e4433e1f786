"""Companies and the tokens with which they prove themselves."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from project.companies.states import CompanyState
from project.core.db.models import Timestamp
from project.core.db.types import StringEnum, one_of
from project.extensions import Model


class Company(Model):
    """A shop; what it owes and pays is its customer's."""

    __tablename__ = "companies"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("customers.id"), unique=True
    )
    endpoint_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("endpoints.id"))
    site_url: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    lastname: Mapped[str] = mapped_column(Text)
    company_name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[CompanyState] = mapped_column(StringEnum(CompanyState))
    click_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (CheckConstraint(one_of("state", CompanyState), name="state"),)

    @property
    def status(self) -> int:
        """Return 1 for an active company, 0 for any other."""
        return self.state.status


class GivenSite(Model):
    """A site for which a first period was given, and to which company."""

    __tablename__ = "given_sites"

    site: Mapped[str] = mapped_column(Text, primary_key=True)
    company_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Company.id))
    given_at: Mapped[datetime] = mapped_column(Timestamp)


class CompanyToken(Model):
    """A login; only the token's SHA-256 is kept."""

    __tablename__ = "company_tokens"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    company_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(Company.id, ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("ix_company_tokens_company", "company_id"),)


class CompanyAddress(Model):
    """Where a company has logged in from: a hash, because that is enough to know it again."""

    __tablename__ = "company_addresses"

    company_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey(Company.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    address_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    used_at: Mapped[datetime] = mapped_column(Timestamp)
