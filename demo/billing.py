"""Companies: a year with refusals, passive and back, a lost answer, a payment only there."""

from typing import Any

from rich.table import Table

from demo.story import Story, console, require, wait_for

PASSWORD = "correct horse battery staple"
BILLING = "/yookassa"


class BillingStory(Story):
    """A shop's life with the product, chapter by chapter."""

    def run(self) -> None:
        """Tell the whole story."""
        self.simulator.control("PUT", f"{BILLING}/settings", {"default": "succeeded"})
        package = self._package()
        self._a_year(package)
        self._passive_and_back(package)
        self._lost_answer(package)
        self._only_at_the_provider(package)
        self.simulator.control("PUT", f"{BILLING}/settings", {"default": "random"})

    def _package(self) -> dict[str, Any]:
        self.chapter("A monthly package")
        body = {"name": f"Monthly {self.run_id}", "price": 99_000, "currency": "RUB"}
        package: dict[str, Any] = self.call("POST", "/api/packages", body, want=201)["data"]
        console.print(f"  package {package['id']}: 990.00 RUB each month, tried 3 times")
        return package

    def _shop(self, name: str) -> dict[str, Any]:
        email = f"{name}-{self.run_id}@shop.example"
        body = {
            "site_url": f"https://{name}-{self.run_id}.example",
            "name": "Ann",
            "lastname": "Lee",
            "company_name": name,
            "email": email,
            "password": PASSWORD,
            "callback_url": f"{self.simulator.base_url}/inbox/{name}-{self.run_id}",
        }
        self.call("POST", "/api/companies/register", body, want=201, headers={})
        shop = {"name": name, "email": email, "inbox": f"{name}-{self.run_id}"}
        self._log_in(shop)
        company = self._check(shop)["company"]
        require(company["status"] == 1, "the first login makes the company active")
        return shop | {"id": company["id"]}

    def _log_in(self, shop: dict[str, Any]) -> None:
        body = {"email": shop["email"], "password": PASSWORD}
        token = self.call("POST", "/api/companies/login", body, want=200, headers={})["token"]
        shop["headers"] = {"Authorization": f"Bearer {token}"}

    def _check(self, shop: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.call(
            "GET", "/api/companies/check", want=200, headers=shop["headers"]
        )
        return found

    def _take(self, shop: dict[str, Any], package: dict[str, Any]) -> dict[str, Any]:
        taken: dict[str, Any] = self.call(
            "POST",
            "/api/companies/packages",
            {"package_id": package["id"]},
            want=201,
            headers=shop["headers"],
        )
        console.print(f"  {shop['name']} takes it: {taken['start_date']} to {taken['end_date']}")
        return taken

    def _subscribe(self, shop: dict[str, Any], package: dict[str, Any]) -> str:
        """Let the shop take the package; return its subscription's path."""
        self._take(shop, package)
        path = f"/api/subscriptions?package_id={package['id']}&limit=1"
        newest = self.call("GET", path, want=200)["data"][0]
        return f"/api/subscriptions/{newest['id']}"

    def _next_charge(self, subscription: str) -> None:
        """Go on to the next charge and make it; what else lives in this copy is passed over."""
        due_at = self.call("GET", subscription, want=200)["data"]["next_charge_at"]
        self.flask("clock", "set", due_at)
        self.flask("autopayments-run", "--inline")

        def is_recorded() -> bool:
            found = self.call("GET", subscription, want=200)["data"]
            return bool(found["next_charge_at"] != due_at)

        wait_for(f"the charge of {due_at} is recorded", is_recorded)

    def _outcomes(self, shop: dict[str, Any], outcomes: list[str], then: str) -> None:
        path = f"{BILLING}/methods/development-{shop['id']}"
        self.simulator.control("PUT", path, {"outcomes": outcomes, "then": then})

    def _payments(self, shop: dict[str, Any]) -> list[dict[str, Any]]:
        path = f"/api/companies/{shop['id']}/payments?limit=100"
        payments: list[dict[str, Any]] = self.call("GET", path, want=200)["data"]
        return payments

    def _show(self, payments: list[dict[str, Any]]) -> None:
        table = Table("period", "attempt", "state", "reason")
        for payment in reversed(payments):
            period = (payment["period_start"] or "")[:10]
            table.add_row(period, str(payment["attempt"]), payment["state"], payment["reason"])
        console.print(table)

    def _a_year(self, package: dict[str, Any]) -> None:
        self.chapter("Twelve months of a shop, with two refusals on the way")
        shop = self._shop("steady")
        subscription = self._subscribe(shop, package)
        refused = "canceled:insufficient_funds"
        self._outcomes(shop, ["succeeded", refused, "succeeded", refused], "succeeded")
        for _ in range(14):
            self._next_charge(subscription)
        self._log_in(shop)
        payments = self._payments(shop)
        self._show(payments)
        paid = [one for one in payments if one["state"] == "succeeded"]
        periods = [one["period_start"] for one in paid]
        require(len(paid) == 12, f"twelve months are paid, not {len(paid)}")
        require(len(set(periods)) == 12, "no month is paid twice")
        require(len(payments) == 14, "the two refusals are on record")
        require(self._check(shop)["state"] == "active", "the shop is active")

    def _passive_and_back(self, package: dict[str, Any]) -> None:
        self.chapter("A shop that goes passive, and pays itself back in")
        shop = self._shop("careless")
        subscription = self._subscribe(shop, package)
        self._outcomes(shop, ["canceled:insufficient_funds"] * 3, "succeeded")
        for _ in range(3):
            self._next_charge(subscription)
        self._log_in(shop)
        found = self._check(shop)
        require(found["company"]["state"] == "passive", "the third refusal makes it passive")
        require(found["state"] == "expired", "its package has ended")
        console.print(f"  refused three times: {found['company']['state']}")
        self.call("POST", "/api/companies/packages/pay", {}, want=200, headers=shop["headers"])
        found = self._check(shop)
        require(found["company"]["state"] == "active", "paying makes it active again")
        console.print(f"  it pays: {found['company']['state']} until {found['end_date']}")
        self._show(self._payments(shop))

    def _lost_answer(self, package: dict[str, Any]) -> None:
        self.chapter("A payment whose answer is lost, and found again")
        shop = self._shop("unlucky")
        self._take(shop, package)
        fault = self.simulator.add_fault("/yookassa/v3/payments", drop="after")
        self.flask("clock", "advance", "31d")
        self.flask("autopayments-run", "--inline")
        self.simulator.control("DELETE", f"/faults/{fault}")
        pending = self._payments(shop)[0]
        require(pending["state"] == "pending", "a payment whose end is not known is pending")
        console.print("  the provider drew the money, but its answer was lost: pending")
        self.flask("clock", "advance", "5m")
        self.flask("match-pending-payments-run", "--inline")
        payments = self._payments(shop)
        require([one["state"] for one in payments] == ["succeeded"], "it is found, once")
        summary = self.simulator.control("GET", f"{BILLING}/summary")
        require(pending["id"] not in summary["paid_more_than_once"], "it was drawn once")
        self._show(payments)

    def _only_at_the_provider(self, package: dict[str, Any]) -> None:
        self.chapter("A payment that exists only at the provider")
        customer = f"visitor-{self.run_id}"
        body = {
            "amount": "990.00",
            "currency": "RUB",
            "status": "succeeded",
            "metadata": {"customer": customer, "package_id": str(package["id"])},
        }
        there = self.simulator.control("POST", f"{BILLING}/payments", body)
        self.flask("match-successful-payments-run", "--inline")
        path = "/api/reconciliation/cases?kind=paid_there_missing_here"
        cases = self.call("GET", path, want=200)["data"]
        mine = [case for case in cases if case["external_id"] == there["id"]]
        require(len(mine) == 1, "it is one case")
        require(mine[0]["state"] == "resolved", "the case is resolved")
        console.print(f"  case {mine[0]['id']}: {mine[0]['kind']}, {mine[0]['action']}")
        payment = self.call("GET", f"/api/payments/{mine[0]['payment_id']}", want=200)["data"]
        require(payment["subscription_id"] is not None, "it has made a subscription")
