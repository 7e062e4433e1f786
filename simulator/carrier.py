"""A mobile carrier's billing service: draws money from a number's account, once per key."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from simulator.clock import Clock
from simulator.json_http import bad_request, json_answer, not_found, read_object, reject_unknown
from simulator.scripts import Scripts, outcome_texts

API = "/carrier/billing"
LEGACY = "/carrier/legacy"
BASE = "/control/carrier"
CHARGED = "charged"
REFUSED = "refused"
PLANS = ("daily", "weekly")
LEGACY_PLANS = {11: "daily", 21: "weekly"}
LEGACY_STATUSES = {CHARGED: "success", REFUSED: "failure"}
USUAL_REASON = "insufficient_funds"
HANG_SECONDS = 60.0
KEPT_CHARGES = 400_000
SHOWN_CHARGES = 100
# How a number's last four digits decide, where no script does; its first requests in turn.
MAGIC: dict[str, tuple[str, ...]] = {
    "9990": ("refused",),
    "9991": ("refused", "charged"),
    "9992": ("refused:unknown_subscriber",),
    "9993": ("error", "charged"),
    "9994": ("drop", "charged"),
    "9995": ("hang", "charged"),
}
KINDS = frozenset({CHARGED, REFUSED, "error", "hang", "drop"})


@dataclass(frozen=True, slots=True)
class Charge:
    """What the carrier has decided on one request."""

    reference: str
    key: str | None
    msisdn: str
    sub_plan: str
    status: str
    reason: str | None
    at: str

    def shown(self) -> dict[str, object]:
        """Return the charge as the service answers it."""
        return {
            "status": self.status,
            "reason": self.reason,
            "reference": self.reference,
            "msisdn": self.msisdn,
            "sub_plan": self.sub_plan,
            "charged_at": self.at,
        }


class Carrier:
    """The billing service and the control over it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget every charge and script."""
        self._numbers = itertools.count(1)
        self._charges: list[Charge] = []
        self._by_key: dict[str, Charge] = {}
        self._requests: Counter[str] = Counter(requests=0, inquiries=0, repeated=0)
        self._scripts = Scripts(MAGIC, usual=CHARGED)

    def routes(self) -> list[web.RouteDef]:
        """Return the public and the control routes."""
        return [
            web.post(API, self.bill),
            web.get(f"{API}/{{key}}", self.show_charge),
            web.post(LEGACY, self.bill_as_legacy),
            web.put(f"{BASE}/numbers/{{msisdn}}", self.set_script),
            web.get(f"{BASE}/charges", self.show_charges),
            web.get(BASE, self.show_counts),
        ]

    async def bill(self, request: web.Request) -> web.Response:
        """Draw one period's price, or answer what the same key has done before."""
        _check_key(request)
        msisdn, sub_plan = await _order(request)
        key = request.headers.get("Idempotency-Key")
        # Asked first: nothing is waited for between the look for the key and the charge.
        now = await self._clock.now()
        self._requests["requests"] += 1
        made = self._by_key.get(key) if key else None
        if made is not None:
            self._requests["repeated"] += 1
            if (made.msisdn, made.sub_plan) != (msisdn, sub_plan):
                return json_answer({"error": "the key was used for something else"}, 409)
            return json_answer(made.shown())
        made = await self._bill(request, key, msisdn, sub_plan, now)
        return json_answer(made.shown()) if made else _no_answer()

    async def bill_as_legacy(self, request: web.Request) -> web.Response:
        """Draw a period's price as the older service knew it: each request is another charge."""
        _check_key(request)
        msisdn, sub_plan = await _legacy_order(request)
        now = await self._clock.now()
        self._requests["requests"] += 1
        made = await self._bill(request, None, f"+{msisdn}", LEGACY_PLANS[sub_plan], now)
        return json_answer({"status": LEGACY_STATUSES[made.status]}) if made else _no_answer()

    async def _bill(
        self, request: web.Request, key: str | None, msisdn: str, sub_plan: str, now: datetime
    ) -> Charge | None:
        """Decide by the number's script; None where nothing was done and nothing is answered."""
        kind, _, reason = self._scripts.next(msisdn).partition(":")
        if kind == "hang":
            await asyncio.sleep(HANG_SECONDS)
        if kind in ("hang", "error"):
            return None
        made = self._decide(key, msisdn, sub_plan, kind, reason, now)
        if kind == "drop" and request.transport is not None:
            request.transport.abort()
        return made

    def _decide(
        self, key: str | None, msisdn: str, sub_plan: str, kind: str, reason: str, now: datetime
    ) -> Charge:
        refused = kind == REFUSED
        charge = Charge(
            reference=f"c-{next(self._numbers)}",
            key=key,
            msisdn=msisdn,
            sub_plan=sub_plan,
            status=REFUSED if refused else CHARGED,
            reason=(reason or USUAL_REASON) if refused else None,
            at=now.isoformat(),
        )
        if len(self._charges) < KEPT_CHARGES:
            self._charges.append(charge)
        if key:
            self._by_key[key] = charge
        return charge

    async def show_charge(self, request: web.Request) -> web.Response:
        """Answer what became of the request with this key."""
        _check_key(request)
        self._requests["inquiries"] += 1
        charge = self._by_key.get(request.match_info["key"])
        if charge is None:
            raise not_found("no request with this key")
        return json_answer(charge.shown())

    async def set_script(self, request: web.Request) -> web.Response:
        """Script what becomes of a number's next charges; {} goes back to the rule."""
        data = await read_object(request)
        reject_unknown(data, frozenset({"outcomes", "then"}))
        outcomes = outcome_texts("outcomes", data.get("outcomes", []), KINDS)
        then = data.get("then")
        last = None if then is None else outcome_texts("then", [then], KINDS)[0]
        self._scripts.set(request.match_info["msisdn"], outcomes, last)
        return json_answer({"outcomes": list(outcomes), "then": last})

    async def show_charges(self, request: web.Request) -> web.Response:
        """Answer the last charges, newest first; of one number with ?msisdn=."""
        msisdn = request.query.get("msisdn")
        limit = request.query.get("limit", str(SHOWN_CHARGES))
        if not limit.isdecimal() or len(limit) > 9:
            raise bad_request("limit is not a whole number")
        wanted = (one for one in reversed(self._charges) if msisdn in (None, one.msisdn))
        items = [{**one.shown(), "key": one.key} for one in itertools.islice(wanted, int(limit))]
        return json_answer({"items": items})

    async def show_counts(self, request: web.Request) -> web.Response:
        """Answer how often the service was asked, and what it did."""
        by_status = Counter(charge.status for charge in self._charges)
        return json_answer(
            {
                **self._requests,
                CHARGED: by_status[CHARGED],
                REFUSED: by_status[REFUSED],
                "numbers_charged": len(set(_charged(self._charges))),
            }
        )


def _no_answer() -> web.Response:
    return json_answer({"error": "the billing core does not answer"}, 503)


def _charged(charges: Iterable[Charge]) -> Iterable[str]:
    return (charge.msisdn for charge in charges if charge.status == CHARGED)


def _check_key(request: web.Request) -> None:
    if not request.headers.get("Auth-Key"):
        raise web.HTTPUnauthorized(text="no Auth-Key")


async def _order(request: web.Request) -> tuple[str, str]:
    data = await read_object(request)
    msisdn, sub_plan = data.get("msisdn"), data.get("sub_plan")
    if not isinstance(msisdn, str) or not msisdn:
        raise bad_request("msisdn is not text")
    if sub_plan not in PLANS:
        raise bad_request("sub_plan is neither daily nor weekly")
    return msisdn, str(sub_plan)


async def _legacy_order(request: web.Request) -> tuple[str, int]:
    data = await read_object(request)
    msisdn, sub_plan = data.get("msisdn"), data.get("sub_plan")
    if not isinstance(msisdn, str) or not msisdn.isdecimal():
        raise bad_request("msisdn is not text of digits, without a plus sign")
    if type(sub_plan) is not int or sub_plan not in LEGACY_PLANS:
        raise bad_request("sub_plan is neither 11 nor 21")
    return msisdn, sub_plan
