"""Which periods a subscription was given, so that what is paid ahead is not shown as running."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

DUE = "ck_subscriptions_charged_is_due"
OLD_DUE = "(state IN ('active', 'past_due')) = (due_at IS NOT NULL)"
NEW_DUE = (
    "(due_at IS NOT NULL) = (state = 'active' OR (state = 'past_due' AND exhausted_at IS NULL))"
)
ENDING = sa.text("due_at IS NULL AND state IN ('canceled', 'past_due')")


def upgrade() -> None:
    op.create_table(
        "subscription_periods",
        sa.Column("subscription_id", sa.BigInteger(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("package_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "period_start < period_end", name=op.f("ck_subscription_periods_period")
        ),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["subscriptions.id"],
            name=op.f("fk_subscription_periods_subscription_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["package_id"], ["packages.id"], name=op.f("fk_subscription_periods_package_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
            name=op.f("fk_subscription_periods_payment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "subscription_id", "period_start", name=op.f("pk_subscription_periods")
        ),
        sa.UniqueConstraint("payment_id", name=op.f("uq_subscription_periods_payment_id")),
    )
    _fill()
    op.add_column(
        "subscriptions", sa.Column("exhausted_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.drop_constraint(op.f(DUE), "subscriptions", type_="check")
    op.create_check_constraint(op.f(DUE), "subscriptions", NEW_DUE)
    op.create_index(
        "ix_subscriptions_ending",
        "subscriptions",
        ["ended_at"],
        unique=False,
        postgresql_where=ENDING,
    )
    # Refused for the last time, says a company that is passive; a gift may have come since.
    op.execute(
        """
        UPDATE subscriptions SET exhausted_at = canceled_at
          FROM companies
         WHERE companies.customer_id = subscriptions.customer_id AND companies.state = 'passive'
           AND subscriptions.state = 'canceled'
           AND subscriptions.refusals > 0
        """
    )
    op.execute(
        """
        UPDATE companies SET state = 'active', updated_at = now()
         WHERE state = 'passive' AND EXISTS (
               SELECT FROM subscriptions
                WHERE subscriptions.customer_id = companies.customer_id
                  AND subscriptions.state IN ('active', 'past_due'))
        """
    )
    # Views have no test clock of their own; where there is none to move, this is now().
    op.execute(
        """
        CREATE FUNCTION product_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
            SELECT now() + coalesce((SELECT offset_seconds FROM clock), 0) * interval '1 second'
        $$
        """
    )
    op.execute("DROP VIEW company_packages")
    op.execute(NEW_VIEW)


def _fill() -> None:
    """Write down what was paid for, and the first periods, which were given."""
    op.execute(
        """
        INSERT INTO subscription_periods (subscription_id, period_start, period_end, package_id,
                                          payment_id)
        SELECT subscription_id, period_start, period_end, package_id, id
          FROM payments
         WHERE state = 'succeeded' AND subscription_id IS NOT NULL
           AND period_start < period_end
        """
    )
    # A package that is charged at its end is paid for from its first period on.
    op.execute(
        """
        INSERT INTO subscription_periods (subscription_id, period_start, period_end, package_id)
        SELECT subscriptions.id, subscriptions.created_at,
               least(coalesce(first.period_start, subscriptions.ended_at),
                     subscriptions.created_at
                     + packages.period_count * ('1 ' || packages.period)::interval),
               packages.id
          FROM subscriptions
          LEFT JOIN LATERAL (
               SELECT periods.package_id, periods.period_start
                 FROM subscription_periods AS periods
                WHERE periods.subscription_id = subscriptions.id
                ORDER BY periods.period_start
                LIMIT 1) AS first ON true
          JOIN packages ON packages.id = coalesce(first.package_id, subscriptions.package_id)
         WHERE packages.charged = 'on_the_day'
           AND subscriptions.created_at < coalesce(first.period_start, subscriptions.ended_at)
        """
    )


NEW_VIEW = """
    CREATE VIEW company_packages AS
    SELECT companies.id AS company_id,
           companies.company_name,
           subscriptions.id AS subscription_id,
           packages.id AS package_id,
           packages.name AS package,
           CASE WHEN subscriptions.due_at IS NULL
                 AND subscriptions.state IN ('canceled', 'past_due')
                 AND subscriptions.ended_at <= moment.now THEN 'expired'
                ELSE subscriptions.state END AS state,
           coalesce(running.period_start, subscriptions.current_period_start) AS start_date,
           coalesce(running.period_end, subscriptions.ended_at) AS end_date,
           subscriptions.ended_at AS paid_until,
           subscriptions.due_at AS next_charge_at,
           subscriptions.refusals,
           coalesce(booked.package_id, subscriptions.next_package_id) AS next_package_id,
           subscriptions.canceled_at,
           subscriptions.created_at
      FROM companies
      JOIN subscriptions ON subscriptions.customer_id = companies.customer_id
     CROSS JOIN (SELECT product_now() AS now) AS moment
      LEFT JOIN LATERAL (
           SELECT periods.package_id, periods.period_start, periods.period_end
             FROM subscription_periods AS periods
            WHERE periods.subscription_id = subscriptions.id
              AND periods.period_start <= moment.now
            ORDER BY periods.period_start DESC
            LIMIT 1) AS running ON true
      LEFT JOIN LATERAL (
           SELECT periods.package_id
             FROM subscription_periods AS periods
            WHERE periods.subscription_id = subscriptions.id
              AND periods.period_start > moment.now
              AND periods.package_id <> running.package_id
            ORDER BY periods.period_start
            LIMIT 1) AS booked ON true
      JOIN packages ON packages.id = coalesce(running.package_id, subscriptions.package_id)
"""
OLD_VIEW = """
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


def downgrade() -> None:
    op.execute("DROP VIEW company_packages")
    op.execute(OLD_VIEW)
    op.execute("DROP FUNCTION product_now()")
    op.drop_index("ix_subscriptions_ending", table_name="subscriptions", postgresql_where=ENDING)
    op.execute(
        "UPDATE subscriptions SET state = 'canceled' WHERE state = 'past_due' AND due_at IS NULL"
    )
    op.drop_constraint(op.f(DUE), "subscriptions", type_="check")
    op.create_check_constraint(op.f(DUE), "subscriptions", OLD_DUE)
    op.drop_column("subscriptions", "exhausted_at")
    op.drop_table("subscription_periods")
