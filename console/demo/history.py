"""The history of the demo's service: who changed what, when and why, oldest first.

The faults are faults of the code and nothing else: a table without its default, a pause in a look-up, a test that was
not asked, a key that only the tests set. Nothing in the program knows them by name but the scenarios' table below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal

Scenario = Literal["good", "errors", "slow", "crash", "failing-test"]

ANA, BO = "Ana Ruiz <ana@checkout.example>", "Bo Lindqvist <bo@checkout.example>"
CY, DEE = "Cy Okafor <cy@checkout.example>", "Dee Tanaka <dee@checkout.example>"


@dataclass(frozen=True, slots=True)
class New:
    """A file that was not there before, with its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """The one place in the file that reads `before` reads `after`."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """One commit. `hours_ago` is its age at the time that the repository is made. `reverts`: the subject that it undoes."""

    author: str
    hours_ago: float
    subject: str
    body: str = ""
    edits: tuple[New | Edit, ...] = ()
    reverts: str = ""
    scenario: Scenario | None = None
    """The scenario that releases it; what is live before is the commit before it."""


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(f"service_{name}.txt").read_text("utf-8")


def history() -> tuple[Change, ...]:
    """All commits of the repository, oldest first."""
    return (*_beginnings(), *_last_days())


def _beginnings() -> tuple[Change, ...]:
    return (
        Change(
            ANA, 150.0, "Quote the price of a cart",
            edits=(
                New("README.md", _file("readme")),
                New("server.py", _file("server")),
                New("prices.py", _file("prices")),
                New("totals.py", _file("totals")),
            ),
        ),
        Change(
            ANA, 148.5, "Test that lines add up",
            edits=(New("tests/__init__.py", ""), New("tests/test_totals.py", _file("test_totals"))),
        ),
        Change(
            BO, 127.0, "Take coupons off the total",
            "Rounded to whole cents, halves to even, as the books want it.",
            (
                New("coupons.py", _file("coupons")),
                New("tests/test_coupons.py", _file("test_coupons")),
                Edit(
                    "totals.py",
                    "from decimal import Decimal\n\nfrom prices",
                    "from decimal import ROUND_HALF_EVEN, Decimal\n\nfrom coupons import discount_of\nfrom prices",
                ),
                Edit("totals.py", "\n\nclass BadCart", '\nCENT = Decimal("0.01")\n\n\nclass BadCart'),
                Edit(
                    "totals.py",
                    '    return {"total": str(total)}',
                    '    if cart.get("coupon"):\n        total *= 1 - discount_of(cart["coupon"])\n'
                    '    return {"total": str(total.quantize(CENT, ROUND_HALF_EVEN))}',
                ),
                Edit("tests/test_totals.py", _REFUSED_TEST, _HALVES_TEST + _REFUSED_TEST),
            ),
        ),
        Change(
            CY, 121.0, "Add the VAT of the country", "",
            (
                New("vat.py", _file("vat")),
                New("tests/test_vat.py", _file("test_vat")),
                Edit("totals.py", "import PRICES\n", "import PRICES\nfrom vat import rate_of\n"),
                Edit("totals.py", _LAST_LINE, '    total *= 1 + rate_of(cart.get("country"))\n' + _LAST_LINE),
            ),
        ),
        Change(
            DEE, 99.0, "Ask the running server, too",
            "Unit tests did not notice that the server would not start without its price list.",
            (
                New("functional/__init__.py", ""),
                New("functional/test_server.py", _file("test_server")),
                Edit("README.md", "-s tests -t .`", "-s tests -t .`, and `-s functional` for those that ask the server"),
            ),
        ),
        Change(
            BO, 78.2, "Answer requests that are no JSON in JSON", "",
            (Edit("server.py", "(BadCart, ValueError) as error", "(BadCart, ValueError, TypeError) as error"),),
        ),
    )  # fmt: skip


def _last_days() -> tuple[Change, ...]:
    return (
        Change(
            BO, 74.0, "Name the currency in the answer", "The new till wants it.",
            (Edit("totals.py", _LAST_LINE, _LAST_LINE.replace("}", ', "currency": "EUR"}')),),
            scenario="good",
        ),
        Change(
            CY, 53.5, "Keep VAT rates and delivery times in one table",
            "They were in two places, and Austria was in one of them only.",
            (
                New("countries.py", _COUNTRIES),
                Edit("vat.py", _RATES, "from decimal import Decimal\n\nfrom countries import COUNTRIES\n"),
                Edit("vat.py", "what we export elsewhere is not taxed here.", "a cart without a country has none yet."),
                Edit(
                    "vat.py",
                    "RATES.get(country, Decimal(0))",
                    "COUNTRIES[country].vat if country else Decimal(0)",
                ),
            ),
            scenario="errors",
        ),
        Change(
            CY, 52.0, "Charge no VAT where we have no rate", "Exports ended in a KeyError.",
            (
                Edit("vat.py", "vat if country else", "vat if country in COUNTRIES else"),
                Edit("tests/test_vat.py", '"95.59")\n', '"95.59")\n' + _EXPORT_TEST),
            ),
        ),
        Change(
            DEE, 50.7, "Round halves up, as the invoices do", "",
            (
                Edit("totals.py", "import ROUND_HALF_EVEN, Decimal", "import ROUND_HALF_UP, Decimal"),
                Edit("totals.py", "(CENT, ROUND_HALF_EVEN)", "(CENT, ROUND_HALF_UP)"),
            ),
            scenario="failing-test",
        ),
        Change(
            DEE, 50.2, "Round halves to even again", "It is the invoices that are wrong. Ana tells the printers.",
            (
                Edit("totals.py", "import ROUND_HALF_UP, Decimal", "import ROUND_HALF_EVEN, Decimal"),
                Edit("totals.py", "(CENT, ROUND_HALF_UP)", "(CENT, ROUND_HALF_EVEN)"),
            ),
        ),
        Change(
            ANA, 30.0, _REMEMBER, "The same carts come again and again.",
            (
                Edit("server.py", "from totals import", "from functools import cache\n\nfrom totals import"),
                Edit("server.py", "quote(json.loads(body))", "remembered(body)"),
                Edit("server.py", "class Handler(", _REMEMBERED + "class Handler("),
            ),
        ),
        Change(
            BO, 28.4, "Sell marmalade", "",
            (Edit("prices.py", '    "honey"', '    "marmalade": Decimal("6.40"),\n    "honey"'),),
        ),
        Change(
            ANA, 26.9, f'Revert "{_REMEMBER}"',
            "It never forgets, and the server with it. To be done again with a limit.", reverts=_REMEMBER,
        ),
        Change(
            BO, 7.5, "Look a coupon up again before turning it down",
            "New coupons reach the shops a moment after the mail that announces them.",
            (
                Edit("coupons.py", "from decimal import Decimal\n", "import time\nfrom decimal import Decimal\n"),
                Edit("coupons.py", "    return DISCOUNTS.get(code, Decimal(0))", _LOOK_UP_AGAIN),
            ),
            scenario="slow",
        ),
        Change(
            BO, 6.8, "Turn unknown coupons down at once",
            "Most of them have run out, and their owners waited for nothing.",
            (
                Edit("coupons.py", "import time\n", ""),
                Edit("coupons.py", _LOOK_UP_AGAIN, "    return DISCOUNTS.get(code, Decimal(0))"),
                Edit("tests/test_coupons.py", '"59.25")\n', '"59.25")\n' + _RUN_OUT_TEST),
            ),
        ),
        Change(
            ANA, 3.1, "Sign each quote", "So that the till can tell that a quote is ours.",
            (
                New("receipts.py", _RECEIPTS),
                New("tests/test_receipts.py", _TEST_RECEIPTS),
                Edit("server.py", "from totals import", "from receipts import sign\nfrom totals import"),
                Edit("server.py", "quote(json.loads(body))", "sign(quote(json.loads(body)))"),
                Edit("functional/test_server.py", "**os.environ}", '**os.environ, "CHECKOUT_KEY": "of the test"}'),
            ),
            scenario="crash",
        ),
        Change(
            ANA, 2.6, "Sign quotes only where there is a key", "The servers have none yet: they did not start.",
            (
                Edit("receipts.py", 'os.environ["CHECKOUT_KEY"]', 'os.environ.get("CHECKOUT_KEY", "")'),
                Edit("receipts.py", "    text = ", "    if not KEY:\n        return quote\n    text = "),
            ),
        ),
        Change(
            DEE, 0.4, "Sell marmalade in the functional test", "",
            (Edit("functional/test_server.py", "    def test_it_refuses", _MARMALADE_TEST + "    def test_it_refuses"),),
        ),
    )  # fmt: skip


SCENARIOS: Final[Mapping[Scenario, str]] = {
    "good": "a good commit: promoted step by step",
    "errors": "a commit with which some carts fail: found by its error ratio",
    "slow": "a commit that keeps some users waiting: found by its latency",
    "crash": "a commit that does not start: no user meets it",
    "failing-test": "a commit that fails its own unit test: no traffic moves",
}

_REMEMBER = "Remember the answers to carts"
_LAST_LINE = '    return {"total": str(total.quantize(CENT, ROUND_HALF_EVEN))}'
_REFUSED_TEST = "    def test_an_unknown_article_is_refused"
_HALVES_TEST = """\
    def test_halves_are_rounded_to_even(self):
        cart = {"lines": [{"sku": "biscuits", "quantity": 1}], "coupon": "SPRING10"}
        self.assertEqual(quote(cart)["total"], "2.20")

"""
_RATES = """\
from decimal import Decimal

RATES = {"DE": Decimal("0.19"), "AT": Decimal("0.20"), "FR": Decimal("0.20"), "NL": Decimal("0.21")}
"""
_COUNTRIES = '''\
"""The countries of our customers: what is to be known of each."""

from collections import namedtuple
from decimal import Decimal

Country = namedtuple("Country", "vat delivery_days")

COUNTRIES = {
    "DE": Country(Decimal("0.19"), 1),
    "AT": Country(Decimal("0.20"), 2),
    "FR": Country(Decimal("0.20"), 2),
    "NL": Country(Decimal("0.21"), 2),
}
'''
_EXPORT_TEST = """
    def test_exports_are_not_taxed(self):
        cart = {"lines": [{"sku": "coffee", "quantity": 10}], "country": "NO"}
        self.assertEqual(quote(cart)["total"], "79.00")
"""
_REMEMBERED = """\
@cache
def remembered(body):
    return quote(json.loads(body))


"""
_LOOK_UP_AGAIN = """\
    for _ in range(3):
        if code in DISCOUNTS:
            return DISCOUNTS[code]
        time.sleep(0.03)
    return Decimal(0)"""
_RUN_OUT_TEST = """
    def test_a_coupon_that_has_run_out_takes_nothing_off(self):
        self.assertEqual(quote({"lines": LINES, "coupon": "WINTER23"})["total"], "79.00")
"""
_RECEIPTS = '''\
"""Signatures, by which the till knows that a quote is ours."""

import hashlib
import hmac
import json
import os

KEY = os.environ["CHECKOUT_KEY"].encode()


def sign(quote):
    """The quote with its signature."""
    text = json.dumps(quote, sort_keys=True).encode()
    return {**quote, "signature": hmac.new(KEY, text, hashlib.sha256).hexdigest()}
'''
_TEST_RECEIPTS = """\
import os
import unittest
from unittest.mock import patch

with patch.dict(os.environ, CHECKOUT_KEY="of the test"):
    from receipts import sign


class Receipts(unittest.TestCase):
    def test_another_total_has_another_signature(self):
        self.assertNotEqual(sign({"total": "1.00"})["signature"], sign({"total": "2.00"})["signature"])
"""
_MARMALADE_TEST = """\
    def test_it_sells_marmalade(self):
        status, answer = self.ask("POST", "/total", {"lines": [{"sku": "marmalade", "quantity": 1}]})
        self.assertEqual((status, answer["total"]), (200, "6.40"))

"""
