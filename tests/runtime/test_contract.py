"""The contract is read strictly, and comes back as it was written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_fgr.confidence import BackOff, Confidence, Conformal, Unknown
from edge_fgr.contract import SCHEMA, Contract, Geometry, OperatingPoint, Provenance
from edge_fgr.errors import ContractError
from edge_fgr.model import embedded, open_model

CONTRACT = Contract(
    name="fruit",
    version=3,
    labels=(("Fruit", "Apple, red"), ("Fruit", "Birne äöü"), ("Vegetables",)),
    geometry=Geometry(size=224, short_side=256, roi=(0.0, 0.1, 0.9, 1.0)),
    target="portable",
    confidence=Confidence(
        temperature=0.8,
        unknown=Unknown("max_minus_mean", threshold=-0.5, share=0.05),
        conformal=Conformal("lac", ((0.8, 0.1), (0.95, 0.4))),
        back_off=BackOff(precision=0.95, certainty=0.9, thresholds=(0.5, None)),
        images=40,
        fitted_on="calibration",
    ),
    provenance=Provenance(recipe="r", metrics={"test": {"int8_top1": 0.9}}),
    operating=OperatingPoint(("Vegetables",), 0.625, 0.05, 38, 2, 1, 30),
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
        ({"schema": 5}, "newer"),
        ({"schema": 0}, "1 to 4"),
        ({"schema": 1, "operating": KeyError}, "'unknown' in schema 1"),
        ({"schema": 3}, "'operating' in schema 3"),
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
        ({"confidence__temperature": float("inf")}, "temperature"),
        ({"confidence__temperature": float("nan")}, "temperature"),
        ({"confidence__temperature": 10**400}, "too large"),
        ({"confidence__colour": 1}, "unknown key 'colour'"),
        ({"confidence__images": 0}, "fitted on"),
        ({"confidence__images": -1}, "at least 0"),
        ({"confidence__images": 4.5}, "an integer"),
        ({"confidence__fitted_on": ""}, "fitted on"),
        ({"confidence__unknown__score": "energy"}, "'energy' is none of"),
        ({"confidence__unknown__threshold": float("nan")}, "finite"),
        ({"confidence__unknown__share": 0}, "share"),
        ({"confidence__unknown__share": KeyError}, "missing key 'share'"),
        ({"confidence__conformal__score": "aps"}, "'aps' is none of"),
        ({"confidence__conformal__quantiles": []}, "at least one"),
        ({"confidence__conformal__quantiles": [[0.8]]}, "2 values"),
        ({"confidence__conformal__quantiles": [[0.8, 1.5]]}, "a quantile"),
        ({"confidence__conformal__quantiles": [[1.0, 0.5]]}, "a coverage"),
        ({"confidence__conformal__quantiles": [[0.9, 0.5], [0.8, 0.6]]}, "rise"),
        ({"confidence__conformal__quantiles": [[0.8, 0.5], [0.9, 0.4]]}, "rise"),
        ({"confidence__back_off__precision": 1}, "precision"),
        ({"confidence__back_off__certainty": float("nan")}, "certainty"),
        ({"confidence__back_off__thresholds": [None, None]}, "at least one"),
        ({"confidence__back_off__thresholds": [0.5, 1.01]}, "a threshold"),
        ({"confidence__back_off__thresholds": [0.5]}, "2 thresholds are needed"),
        ({"confidence__back_off__thresholds": [0.5, "x"]}, "a number"),
        ({"provenance__metrics": [1]}, "an object is needed"),
        ({"operating__label": ["Fruit"]}, "its label is none"),
        ({"operating__threshold": 0}, "threshold"),
        ({"operating__threshold": 1.01}, "threshold"),
        ({"operating__threshold": float("nan")}, "threshold"),
        ({"operating__max_false_reject": 0}, "max_false_reject"),
        ({"operating__max_false_reject": 1}, "max_false_reject"),
        ({"operating__missed": -1}, "counts"),
        ({"operating__missed": KeyError}, "missing key 'missed'"),
        ({"operating__colour": 1}, "unknown key 'colour'"),
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


def test_older_schemas_are_read_and_4_is_written():
    for older in (2, 3):
        read = Contract.from_json(changed(schema=older, operating=KeyError))
        assert read == replace(CONTRACT, schema=older, operating=None)
    text = changed(schema=1, confidence={"temperature": 0.8}, operating=KeyError)
    contract = Contract.from_json(text)
    assert contract.schema == 1 and contract.confidence == Confidence(0.8)
    again = Contract.from_json(contract.to_json())
    assert json.loads(contract.to_json())["schema"] == again.schema == SCHEMA == 4
    assert (again.confidence, again.labels) == (contract.confidence, contract.labels)


def test_the_operating_point_may_be_absent():
    for absent in (None, KeyError):
        assert Contract.from_json(changed(operating=absent)).operating is None


def test_every_part_of_the_confidence_may_be_absent():
    for part in ("unknown", "conformal", "back_off"):
        for absent in (None, KeyError):
            read = Contract.from_json(changed(**{f"confidence__{part}": absent}))
            assert getattr(read.confidence, part) is None


def test_the_embedded_model_opens():
    contract = open_model(embedded()["grocery81"], device="cpu").contract
    assert contract.temperature > 0 and Contract.from_json(contract.to_json()).labels
