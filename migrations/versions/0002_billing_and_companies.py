"""Billing and companies, with two views for people who query."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("payment_method_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("kind", "reference", name=op.f("uq_customers_kind_reference")),
    )
    op.create_table(
        "packages",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("period_count", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("retry_attempts", sa.Integer(), nullable=False),
        sa.Column("retry_interval_seconds", sa.Integer(), nullable=False),
        sa.Column("at_retry_end", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "at_retry_end IN ('expire', 'cancel')", name=op.f("ck_packages_at_retry_end")
        ),
        sa.CheckConstraint(
            "period IN ('day', 'week', 'month', 'year')", name=op.f("ck_packages_period")
        ),
        sa.CheckConstraint("status IN ('active', 'inactive')", name=op.f("ck_packages_status")),
        sa.CheckConstraint("period_count BETWEEN 1 AND 366", name=op.f("ck_packages_period_count")),
        sa.CheckConstraint("price > 0", name=op.f("ck_packages_price")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
        sa.UniqueConstraint("name", name=op.f("uq_packages_name")),
    )
    op.create_table(
        "companies",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=True),
        sa.Column("site_url", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lastname", sa.Text(), nullable=False),
        sa.Column("company_name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("click_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('registered', 'active', 'passive')", name=op.f("ck_companies_state")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_companies_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_companies_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companies")),
        sa.UniqueConstraint("customer_id", name=op.f("uq_companies_customer_id")),
        sa.UniqueConstraint("email", name=op.f("uq_companies_email")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("next_package_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("anchor_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("current_period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refusals", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("past_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("canceled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_id", sa.Uuid(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(state IN ('active', 'past_due')) = (due_at IS NOT NULL)",
            name=op.f("ck_subscriptions_charged_is_due"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'past_due', 'canceled', 'expired')",
            name=op.f("ck_subscriptions_state"),
        ),
        sa.CheckConstraint("current_period_start < ended_at", name=op.f("ck_subscriptions_period")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_subscriptions_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["next_package_id"], ["packages.id"], name=op.f("fk_subscriptions_next_package_id")
        ),
        sa.ForeignKeyConstraint(
            ["package_id"], ["packages.id"], name=op.f("fk_subscriptions_package_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index("ix_subscriptions_customer", "subscriptions", ["customer_id"], unique=False)
    op.create_index(
        "ix_subscriptions_due_at",
        "subscriptions",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_subscriptions_running_end",
        "subscriptions",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('active', 'past_due', 'canceled')"),
    )
    op.create_index(
        "uq_subscriptions_one_running",
        "subscriptions",
        ["customer_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('pending', 'active', 'past_due', 'canceled')"),
    )
    op.create_table(
        "company_tokens",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["companies.id"],
            name=op.f("fk_company_tokens_company_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_company_tokens_token_hash")),
    )
    op.create_index("ix_company_tokens_company", "company_tokens", ["company_id"], unique=False)
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("subscription_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("payment_method_id", sa.Text(), nullable=True),
        sa.Column("return_url", sa.Text(), nullable=True),
        sa.Column("confirmation_url", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_id", sa.Uuid(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(state = 'pending') = (due_at IS NOT NULL)", name=op.f("ck_payments_pending_is_due")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'succeeded', 'canceled', 'expired')",
            name=op.f("ck_payments_state"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount")),
        sa.CheckConstraint(
            "trigger IN ('purchase', 'subscription_cycle', 'retry_dunning', 'retry_customer', 'retry_admin')",
            name=op.f("ck_payments_trigger"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_payments_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["package_id"], ["packages.id"], name=op.f("fk_payments_package_id")
        ),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_payments_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint(
            "provider", "external_id", name=op.f("uq_payments_provider_external_id")
        ),
    )
    op.create_index("ix_payments_created", "payments", ["created_at"], unique=False)
    op.create_index("ix_payments_customer", "payments", ["customer_id", "created_at"], unique=False)
    op.create_index(
        "ix_payments_due_at",
        "payments",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_payments_subscription", "payments", ["subscription_id"], unique=False)
    op.create_index(
        "uq_payments_one_per_period",
        "payments",
        ["subscription_id", "period_start"],
        unique=True,
        postgresql_where=sa.text("state IN ('pending', 'succeeded')"),
    )
    op.create_table(
        "reconciliation_cases",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('paid_there_pending_here', 'paid_there_missing_here', 'paid_here_unknown_there', 'amount_differs')",
            name=op.f("ck_reconciliation_cases_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'resolved')", name=op.f("ck_reconciliation_cases_state")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_reconciliation_cases_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciliation_cases")),
    )
    op.create_index(
        "ix_reconciliation_cases_state",
        "reconciliation_cases",
        ["state", "opened_at"],
        unique=False,
    )
    op.create_index(
        "uq_reconciliation_cases_same",
        "reconciliation_cases",
        ["kind", "provider", sa.literal_column("coalesce(external_id, payment_id::text)")],
        unique=True,
    )
    op.execute(
        """
        CREATE VIEW company_packages AS
        SELECT companies.id AS company_id,
               companies.company_name,
               subscriptions.id AS subscription_id,
               subscriptions.package_id,
               packages.name AS package,
               subscriptions.state,
               subscriptions.current_period_start AS start_date,
               subscriptions.ended_at AS end_date,
               subscriptions.due_at AS next_charge_at,
               subscriptions.refusals,
               subscriptions.next_package_id,
               subscriptions.canceled_at,
               subscriptions.created_at
        FROM companies
        JOIN subscriptions ON subscriptions.customer_id = companies.customer_id
        JOIN packages ON packages.id = subscriptions.package_id
        """
    )
    op.execute(
        """
        CREATE VIEW company_payments AS
        SELECT companies.id AS company_id,
               companies.company_name,
               payments.id AS payment_id,
               payments.subscription_id,
               payments.package_id,
               payments.state,
               payments.amount,
               payments.currency,
               payments.period_start,
               payments.period_end,
               payments.attempt,
               payments.trigger,
               payments.reason,
               payments.provider,
               payments.external_id,
               payments.created_at,
               payments.settled_at
        FROM companies
        JOIN payments ON payments.customer_id = companies.customer_id
        """
    )


def downgrade() -> None:
    op.execute("DROP VIEW company_payments")
    op.execute("DROP VIEW company_packages")
    op.drop_index("uq_reconciliation_cases_same", table_name="reconciliation_cases")
    op.drop_index("ix_reconciliation_cases_state", table_name="reconciliation_cases")
    op.drop_table("reconciliation_cases")
    op.drop_index(
        "uq_payments_one_per_period",
        table_name="payments",
        postgresql_where=sa.text("state IN ('pending', 'succeeded')"),
    )
    op.drop_index("ix_payments_subscription", table_name="payments")
    op.drop_index(
        "ix_payments_due_at", table_name="payments", postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.drop_index("ix_payments_customer", table_name="payments")
    op.drop_index("ix_payments_created", table_name="payments")
    op.drop_table("payments")
    op.drop_index("ix_company_tokens_company", table_name="company_tokens")
    op.drop_table("company_tokens")
    op.drop_index(
        "uq_subscriptions_one_running",
        table_name="subscriptions",
        postgresql_where=sa.text("state IN ('pending', 'active', 'past_due', 'canceled')"),
    )
    op.drop_index(
        "ix_subscriptions_running_end",
        table_name="subscriptions",
        postgresql_where=sa.text("state IN ('active', 'past_due', 'canceled')"),
    )
    op.drop_index(
        "ix_subscriptions_due_at",
        table_name="subscriptions",
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_index("ix_subscriptions_customer", table_name="subscriptions")
    op.drop_table("subscriptions")
    op.drop_table("companies")
    op.drop_table("packages")
    op.drop_table("customers")
