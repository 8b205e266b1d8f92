"""What `stages.py` puts beside stages: the same work for just these documents, as one would write it in a loop by hand.

Each function takes the bytes of one record and gives those of the result: None where the record is left out, a list
where it may give several. They check what the stage must check: a value of a wrong type or a missing field raises. They
may change what they have parsed in place, since it is theirs alone.
"""

from __future__ import annotations

import re
from heapq import heappop, heappush
from typing import Any

import jsonschema_rs
import orjson

loads = orjson.loads


def dumps(document: Any) -> bytes:
    """JSON without the room behind it that orjson leaves: to keep that costs more than all else. Chains do the same."""
    return b"%b" % orjson.dumps(document)


def parsed(value: bytes) -> dict[str, Any]:
    document = loads(value)
    if type(document) is not dict:
        raise TypeError
    return document


def the_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


def the_object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError
    return value


def text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


# Stages of their own.


def set_(value: bytes) -> bytes:
    document = parsed(value)
    document["label"] = f"{document['id']} {document['user']['name']}"
    return dumps(document)


def map_(value: bytes) -> bytes:
    document = parsed(value)
    return dumps({"id": document["id"], "name": document["user"]["name"], "lines": len(document["lines"])})


def drop(value: bytes) -> bytes:
    document = parsed(value)
    document.pop("note", None)
    document.pop("amount", None)
    return dumps(document)


def filter_(value: bytes) -> bytes | None:
    document = parsed(value)
    amount, user = document["amount"], document["user"]
    if int(amount) > 50 and (user["country"] == "DE" or user["name"] == "x") and document["id"] != "o-7":
        return value
    return None


def flatten(value: bytes) -> list[bytes]:
    document = parsed(value)
    rows = []
    for line in the_list(document["lines"]):
        document["lines"] = line
        rows.append(dumps(document))
    return rows


def flatten_only(value: bytes) -> list[bytes]:
    return [dumps(the_object(line)) for line in the_list(parsed(value)["lines"])]


def enricher(rows: dict[str, dict[str, Any]]) -> Any:
    def enrich(value: bytes) -> bytes:
        document = parsed(value)
        row = rows[text(document["id"])]
        document["tier"], document["region"] = row["tier"], row["region"]
        return dumps(document)

    return enrich


def route(value: bytes) -> tuple[str, bytes]:
    document = parsed(value)
    name = document["user"]["name"]
    return ("few" if name in ("user-1", "user-2") else "some" if name < "user-3" else "rest"), value


def checked_set(schema: Any) -> Any:
    fits = jsonschema_rs.validator_for(schema).is_valid

    def check(value: bytes) -> bytes:
        document = parsed(value)
        if not fits(document) or not document.keys() <= schema["properties"].keys():
            raise ValueError
        document["label"] = f"{document['id']} {document['user']['name']}"
        return dumps(document)

    return check


class Dedupe:
    """One of each id within a time (ms); what has changed is known to the next checkpoint."""

    def __init__(self, within: int, out_of_order: int) -> None:
        self.within, self.out_of_order = within, out_of_order

    def batch(self, records: Any) -> list[Any]:
        within, rows = self.within, []
        seen: dict[int, dict[str, int]] = {}
        dirty: set[tuple[int, str]] = set()
        watermark = 0
        for record in records:
            document = parsed(record.value)
            time, key = document["n"], text(document["id"])
            if type(time) is not int:
                raise TypeError
            if time - self.out_of_order > watermark:
                watermark = time - self.out_of_order
            if time < watermark:
                raise ValueError
            piece = time - time % within
            for start in (piece, piece - within, piece + within):
                if start in seen and key in seen[start] and abs(seen[start][key] - time) <= within:
                    break
            else:
                seen.setdefault(piece, {})[key] = time
                dirty.add((piece, key))
                rows.append((record.key, record.value, time, record.headers))
        for start in [start for start in seen if start + 2 * within <= watermark]:
            del seen[start]
        return rows


class Sort:
    """Records by their times; what waits is known to the next checkpoint."""

    def __init__(self, out_of_order: int) -> None:
        self.out_of_order = out_of_order

    def batch(self, records: Any) -> list[Any]:
        waiting: list[tuple[int, int, Any]] = []
        dirty: set[int] = set()
        watermark = 0
        for number, record in enumerate(records):
            time = parsed(record.value)["n"]
            if type(time) is not int:
                raise TypeError
            if time - self.out_of_order > watermark:
                watermark = time - self.out_of_order
            if time < watermark:
                raise ValueError
            heappush(waiting, (time, number, record))
            dirty.add(number)
        rows = []
        while waiting and waiting[0][0] < watermark:
            time, number, record = heappop(waiting)
            dirty.discard(number)
            rows.append((record.key, record.value, time, record.headers))
        return rows


# Operations of `transform`.


def plain_name(value: bytes) -> bytes:
    document = parsed(value)
    user = document.get("user")
    document["out"] = [user["name"]] if type(user) is dict and "name" in user else []
    return dumps(document)


def reshape(value: bytes) -> bytes:
    document = parsed(value)
    lines = [line for line in the_list(document["lines"]) if line["price"] > 20]
    lines = [{"sku": line["sku"], "value": line["price"] * line["quantity"]} for line in lines]
    lines.sort(key=lambda line: line["value"], reverse=True)
    document["lines"] = lines
    document["tier"] = "gold" if len(lines) > 3 else "silver"
    document["title"] = f"Order {document['id']} of {document['user']['name']}"
    return dumps(document)


def filter_list(value: bytes) -> bytes:
    document = parsed(value)
    document["lines"] = [line for line in the_list(document["lines"]) if line["price"] > 20]
    return dumps(document)


def map_list(value: bytes) -> bytes:
    document = parsed(value)
    document["lines"] = [
        {"sku": line["sku"], "value": line["price"] * line["quantity"]} for line in the_list(document["lines"])
    ]
    return dumps(document)


def map_texts(value: bytes) -> bytes:
    document = parsed(value)
    document["lines"] = [f"{line['quantity']} of {line['sku']}" for line in the_list(document["lines"])]
    return dumps(document)


def total(value: bytes) -> bytes:
    document = parsed(value)
    document["total"] = sum([line["price"] * line["quantity"] for line in the_list(document["lines"])])
    return dumps(document)


def sort(value: bytes) -> bytes:
    document = parsed(value)
    the_list(document["lines"]).sort(key=lambda line: line["price"], reverse=True)
    return dumps(document)


def sort_by_two(value: bytes) -> bytes:
    document = parsed(value)
    lines = the_list(document["lines"])
    lines.sort(key=lambda line: line["sku"])
    lines.sort(key=lambda line: line["price"], reverse=True)
    return dumps(document)


def group(value: bytes) -> bytes:
    document = parsed(value)
    groups: dict[str, dict[str, Any]] = {}
    for line in the_list(document["lines"]):
        key = text(line["sku"])
        if key in groups:
            groups[key]["items"].append(line)
        else:
            groups[key] = {"key": key, "items": [line]}
    document["lines"] = list(groups.values())
    return dumps(document)


def group_object(value: bytes) -> bytes:
    document = parsed(value)
    groups: dict[str, list[Any]] = {}
    for line in the_list(document["lines"]):
        groups.setdefault(text(line["sku"]), []).append(line)
    document["lines"] = groups
    return dumps(document)


def zip_objects(value: bytes) -> bytes:
    document = parsed(value)
    skus, prices = the_list(document["skus"]), the_list(document["prices"])
    document["lines"] = [{"sku": sku, "price": price} for sku, price in zip(skus, prices, strict=True)]
    return dumps(document)


def flatten_list(value: bytes) -> bytes:
    document = parsed(value)
    flat: list[Any] = []
    for part in the_list(document["parts"]):
        if type(part) is list:
            flat.extend(part)
        else:
            flat.append(part)
    document["parts"] = flat
    return dumps(document)


def unique(value: bytes) -> bytes:
    document = parsed(value)
    first: dict[str, Any] = {}
    for line in the_list(document["lines"]):
        first.setdefault(text(line["sku"]), line)
    document["lines"] = list(first.values())
    return dumps(document)


def unique_values(value: bytes) -> bytes:
    document = parsed(value)
    document["skus"] = list(dict.fromkeys(map(text, the_list(document["skus"]))))
    return dumps(document)


def pivot(value: bytes) -> bytes:
    document = parsed(value)
    made: dict[str, Any] = {}
    for reading in the_list(document["readings"]):
        name = text(reading["name"])
        if name in made:
            raise ValueError
        made[name] = reading["value"]
    document["readings"] = made
    return dumps(document)


def unpivot(value: bytes) -> bytes:
    document = parsed(value)
    document["sensors"] = [{"sensor": name, "value": one} for name, one in the_object(document["sensors"]).items()]
    return dumps(document)


def nest(value: bytes) -> bytes:
    document = parsed(value)
    document["address"] = {"street": document.pop("street"), "city": document.pop("city")}
    return dumps(document)


def nest_prefix(value: bytes) -> bytes:
    document = parsed(value)
    names = [name for name in document if name.startswith("ship_")]
    if names:
        document["ship"] = {name[5:]: document.pop(name) for name in names}
    return dumps(document)


def unnest(value: bytes) -> bytes:
    document = parsed(value)
    inner = the_object(document.pop("user"))
    if not inner.keys().isdisjoint(document.keys()):
        raise ValueError
    document.update(inner)
    return dumps(document)


def when(value: bytes) -> bytes:
    document = parsed(value)
    document["tier"] = "gold" if len(document["lines"]) > 3 else "silver"
    return dumps(document)


def template(value: bytes) -> bytes:
    document = parsed(value)
    document["title"] = f"Order {document['id']} of {document['user']['name']}"
    return dumps(document)


WHOLE = re.compile(r"[+-]?[0-9]+").fullmatch


def coerce_rename(value: bytes) -> bytes:
    document = parsed(value)
    document["amount"] = int(document["amount"])
    the_object(document["user"])["id"] = document.pop("id")
    return dumps(document)


def coerce_strictly(value: bytes) -> bytes:
    document = parsed(value)
    amount = document["amount"]
    if type(amount) is str and WHOLE(amount.strip()):
        document["amount"] = int(amount)
    elif type(amount) is not int:
        raise TypeError
    the_object(document["user"])["id"] = document.pop("id")
    return dumps(document)


def merge(value: bytes) -> bytes:
    document = parsed(value)
    the_object(document["user"]).update(country="FR", seen=True)
    return dumps(document)


def merge_field(value: bytes) -> bytes:
    document = parsed(value)
    old, new = the_object(document["user"]), the_object(document["changes"])
    for name, one in new.items():
        if type(one) is dict and type(old.get(name)) is dict:
            raise ValueError  # one level deep
        old[name] = one
    return dumps(document)


def patch(value: bytes) -> bytes:
    document = parsed(value)
    if document["user"]["country"] != "DE":
        raise ValueError
    document["user"]["state"] = document["user"].pop("country")
    del document["note"]
    document["lines"].insert(0, {"sku": "s-0"})
    return dumps(document)
