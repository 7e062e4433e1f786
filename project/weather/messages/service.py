"""What others ask of messages: a run now, a receipt, a message from a number."""

from project.weather.messages.making import begin_run
from project.weather.messages.receipts import hear_receipt
from project.weather.messages.stops import hear_inbound

__all__ = ["begin_run", "hear_inbound", "hear_receipt"]
