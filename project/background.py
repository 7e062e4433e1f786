"""What a process needs to do the work of every domain: their listeners, and what is due.

The API needs it as workers and commands do: whoever bills a customer, the company hears of it.
"""

from project.billing import queries as billing_queries
from project.billing import subscription_state
from project.billing.signals import charge_planned
from project.callbacks import queries as callback_queries
from project.clicks import queries as click_queries
from project.clicks.exports import queries as export_queries
from project.companies import listeners as company_listeners
from project.core.work.probes import DueProbe, watch
from project.mobile.purchases import queries as purchase_queries
from project.weather import billing_sync, serviceability
from project.weather.imports import queries as task_queries
from project.weather.messages import queries as message_queries
from project.weather.messages import receipts

LISTENERS = (company_listeners, billing_sync)
"""To import them is to have them hear billing's signals."""
PROBES = (
    DueProbe("callbacks", callback_queries.oldest_due_at),
    DueProbe("purchases", purchase_queries.oldest_due_at),
    DueProbe("payments", billing_queries.oldest_inquiry_due_at),
    DueProbe("subscription_ends", subscription_state.oldest_ended_at),
    DueProbe("late_charges", billing_queries.oldest_late_charge_due_at),
    DueProbe("prompt_charges", billing_queries.oldest_prompt_charge_due_at),
    DueProbe("clicks", click_queries.oldest_waiting_at),
    DueProbe("click-exports", export_queries.oldest_due_at),
    DueProbe("tasks", task_queries.oldest_due_at),
    DueProbe("forecast_billing", billing_sync.oldest_due_at),
    DueProbe("message_run", message_queries.oldest_planned_at),
    DueProbe("messages", message_queries.oldest_unsent_due_at),
    DueProbe("receipts", message_queries.oldest_unreceipted_due_at),
    DueProbe("self_receipts", receipts.oldest_self_receipt_due_at),
)

charge_planned.connect(serviceability.hold_charges)
for probe in PROBES:
    watch(probe)
