"""What others ask of messages: a run now, a receipt, a message from a number."""

from project.weather.messages.generate import begin_run
from project.weather.messages.opt_outs import hear_inbound
from project.weather.messages.receipts import hear_receipt

__all__ = ["begin_run", "hear_inbound", "hear_receipt"]
