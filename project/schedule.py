"""The one list of periodic work. Crons are in UTC; every entry is safe to run twice at once."""

from project.billing.settings import BillingSettings
from project.clicks.settings import export_job_timeout_seconds
from project.config.environment import get_settings
from project.config.kernel import WorkSettings
from project.core.work.queues import QueueName
from project.core.work.scheduler import Periodic

EVERY_MINUTE = "* * * * *"


def schedule() -> tuple[Periodic, ...]:
    """Return the list; the settings are read when it is asked for, not when this is imported."""
    settings = get_settings(BillingSettings)
    return (
        Periodic(
            "purchase-run",
            "project.mobile.purchases.jobs.verify_due_purchases",
            EVERY_MINUTE,
            QueueName.MEDIUM,
            due_probe="purchases",
        ),
        Periodic(
            "tasks-run",
            "project.weather.imports.jobs.run_due_tasks",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="tasks",
        ),
        Periodic(
            "drop-old-files-run",
            "project.weather.imports.jobs.drop_old_files",
            "50 3 * * *",
            QueueName.DEFAULT,
        ),
        Periodic(
            "callbacks-run",
            "project.callbacks.jobs.deliver_due_callbacks",
            EVERY_MINUTE,
            QueueName.HIGH,
            due_probe="callbacks",
        ),
        Periodic(
            "autopayments-run",
            "project.billing.jobs.charge_due",
            settings.autopayments_cron,
            QueueName.MEDIUM,
        ),
        Periodic(
            "prompt-charges-run",
            "project.billing.jobs.charge_prompt",
            EVERY_MINUTE,
            QueueName.MEDIUM,
            due_probe="prompt_charges",
        ),
        Periodic(
            "late-charges-run",
            "project.billing.jobs.charge_late",
            EVERY_MINUTE,
            QueueName.MEDIUM,
            due_probe="late_charges",
        ),
        Periodic(
            "expire-subscriptions-run",
            "project.billing.jobs.expire_subscriptions",
            settings.expire_subscriptions_cron,
            QueueName.MEDIUM,
        ),
        Periodic(
            "end-subscriptions-run",
            "project.billing.jobs.end_subscriptions",
            EVERY_MINUTE,
            QueueName.MEDIUM,
            due_probe="subscription_ends",
        ),
        Periodic(
            "expire-payments-run",
            "project.billing.jobs.expire_payments",
            settings.expire_payments_cron,
            QueueName.MEDIUM,
        ),
        Periodic(
            "match-pending-payments-run",
            "project.billing.jobs.match_pending",
            settings.match_pending_cron,
            QueueName.MEDIUM,
            due_probe="payments",
        ),
        Periodic(
            "match-successful-payments-run",
            "project.billing.jobs.match_successful",
            settings.match_successful_cron,
            QueueName.MEDIUM,
            due_probe="payments",
        ),
        Periodic(
            "click-exports-run",
            "project.clicks.exports.jobs.send_due_exports",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="click-exports",
            timeout_seconds=export_job_timeout_seconds(),
        ),
        Periodic(
            "clicks-drain",
            "project.clicks.jobs.drain_clicks",
            EVERY_MINUTE,
            get_settings(WorkSettings).clicks_queue_name,
            due_probe="clicks",
        ),
        Periodic(
            "make-click-partitions",
            "project.clicks.jobs.make_partitions",
            "7 1 * * *",
            QueueName.DEFAULT,
        ),
        Periodic(
            "forget-click-ids",
            "project.clicks.jobs.forget_click_ids",
            "27 3 * * *",
            QueueName.DEFAULT,
        ),
        Periodic(
            "forecast-billing-run",
            "project.weather.messages.jobs.follow_plans",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="forecast_billing",
        ),
        Periodic(
            "message-run",
            "project.weather.messages.jobs.make_messages",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="message_run",
        ),
        Periodic(
            "messages-run",
            "project.weather.messages.jobs.send_messages",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="messages",
        ),
        Periodic(
            "self-receipts-run",
            "project.weather.messages.jobs.send_self_receipts",
            EVERY_MINUTE,
            QueueName.DEFAULT,
            due_probe="self_receipts",
        ),
        Periodic(
            "expire-messages-run",
            "project.weather.messages.jobs.expire_messages",
            "23 * * * *",
            QueueName.DEFAULT,
            due_probe="receipts",
        ),
        Periodic(
            "forget-idempotency-keys",
            "project.core.http.idempotency.forget_old_keys",
            "17 3 * * *",
            QueueName.DEFAULT,
        ),
    )
