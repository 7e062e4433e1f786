"""Which site a company is of: the first period is given once to each, whoever registers it."""

from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from project.companies.models import Company, GivenSite
from project.core import clock
from project.core.errors import Conflict
from project.extensions import db

WWW = "www."


def site_of(url: str) -> str:
    """Return the host of a URL in its one form: small, in ASCII, without `www.` and final dots.

    Scheme, port and path are left out: a shop has one site, however it is written.
    """
    try:
        host = urlsplit(url.strip()).hostname or url
    except ValueError:
        host = url
    try:
        written = host.encode("idna").decode()
    except UnicodeError:
        written = host
    return written.casefold().rstrip(".").removeprefix(WWW)


def take_first_period(company: Company) -> None:
    """Note that the company's site is given its first period, which begins now.

    Raises Conflict if another company of this site was given one before.
    """
    site = site_of(company.site_url)
    db.session.execute(
        insert(GivenSite)
        .values(site=site, company_id=company.id, given_at=clock.now())
        .on_conflict_do_nothing(index_elements=["site"])
    )
    given_to = db.session.scalar(select(GivenSite.company_id).where(GivenSite.site == site))
    if given_to != company.id:
        raise Conflict(
            f"A first period has been given for {site} already. Pay for yours with "
            "POST /api/companies/packages/checkout.",
            {"package_id": ["A first period is given once for each site."]},
        )
