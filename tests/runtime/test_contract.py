"""The contract is read strictly, and comes back as it was written."""

from __future__ import annotations

import json

import pytest

from edge_fgr.contract import Confidence, Contract, Geometry, Provenance
from edge_fgr.errors import ContractError

CONTRACT = Contract(
    name="fruit",
    version=3,
    labels=(("Fruit", "Apple, red"), ("Fruit", "Birne äöü"), ("Vegetables",)),
    geometry=Geometry(size=224, short_side=256, roi=(0.0, 0.1, 0.9, 1.0)),
    target="portable",
    confidence=Confidence(temperature=0.8),
    provenance=Provenance(recipe="r", metrics={"test": {"int8_top1": 0.9}}),
)


def test_round_trip():
    text = CONTRACT.to_json()
    assert "\n" not in text
    assert Contract.from_json(text) == CONTRACT


def changed(**changes: object) -> str:
    document = json.loads(CONTRACT.to_json())
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        if value is KeyError:
            del place[key]
        else:
            place[key] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"geometry__zoom": 2}, "unknown key 'zoom'"),
        ({"name": KeyError}, "missing key 'name'"),
        ({"geometry__size": KeyError}, "missing key 'size'"),
        ({"schema": 2}, "newer"),
        ({"schema": KeyError}, "schema"),
        ({"schema": True}, "schema"),
        ({"version": "3"}, "an integer is needed"),
        ({"version": True}, "an integer is needed"),
        ({"version": 0}, "at least 1"),
        ({"labels": []}, "labels"),
        ({"labels": [["a"], ["a"]]}, "twice"),
        ({"labels": [["a", ""]]}, "non-empty"),
        ({"labels": ["a", "b"]}, "a list is needed"),
        ({"geometry__kernel": "nearest"}, "'nearest' is none of"),
        ({"geometry__size": 4}, "size"),
        ({"geometry__short_side": 100}, "short_side"),
        ({"geometry__roi": [0, 0, 1]}, "4 values"),
        ({"geometry__roi": [0.5, 0, 0.4, 1]}, "roi"),
        ({"geometry__scaled_decode": 0.5}, "scaled_decode"),
        ({"confidence__temperature": 0}, "temperature"),
        ({"confidence__temperature": None}, "a number is needed"),
        ({"provenance__metrics": [1]}, "an object is needed"),
    ],
)
def test_what_breaks_a_rule_is_refused(changes, says):
    with pytest.raises(ContractError, match=says):
        Contract.from_json(changed(**changes))


@pytest.mark.parametrize("text", ["", "no json", "[]", "null", "1", '"x"', "{}"])
def test_what_is_no_contract_is_refused(text):
    with pytest.raises(ContractError):
        Contract.from_json(text)


def test_optional_parts_may_be_absent():
    text = changed(confidence=None, geometry__roi=None)
    assert Contract.from_json(text).confidence is None
