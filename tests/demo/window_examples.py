"""What the examples of `window` print, as plain Python has it."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
MINUTE = 60_000


def purchases(orders: list[Document]) -> list[Document]:
    return [order for order in orders if order["type"] == "purchase"]


def tumbling(orders: list[Document]) -> list[Document]:
    groups: dict[tuple[str, int], list[float]] = {}
    for order in purchases(orders):
        groups.setdefault((order["country"], order["ts"] // (10 * MINUTE)), []).append(order["amount"])
    return [
        {
            "country": country,
            "window_start": at * 10 * MINUTE,
            "window_end": (at + 1) * 10 * MINUTE,
            "orders": len(amounts),
            "total": round(sum(amounts), 2),
            "largest": max(amounts),
        }
        for (country, at), amounts in groups.items()
        if len(amounts) >= 4
    ]


def hopping(orders: list[Document]) -> list[Document]:
    first, last = (orders[n]["ts"] // (2 * MINUTE) for n in (0, -1))
    made = []
    for end in range((first + 1) * 2 * MINUTE, (last + 6) * 2 * MINUTE, 2 * MINUTE):
        totals: dict[str, float] = {}
        for order in purchases(orders):
            if end - 10 * MINUTE <= order["ts"] < end:
                totals[order["channel"]] = totals.get(order["channel"], 0) + order["amount"]
        if totals:
            best = max(totals, key=lambda channel: totals[channel])
            made.append({"until": end, "channel": best, "total": round(totals[best], 2)})
    return made


def session(orders: list[Document]) -> list[Document]:
    made: list[list[Document]] = []
    sessions: dict[str, list[Document]] = {}
    for order in orders:
        current = sessions.get(order["customer"])
        if current and (order["ts"] - current[-1]["ts"] > 2 * MINUTE or order["ts"] - current[0]["ts"] >= 10 * MINUTE):
            made.append(current)
            current = None
        sessions[order["customer"]] = [*(current or ()), order]
    made += sessions.values()
    return [
        {
            "customer": found[0]["customer"],
            "window_start": found[0]["ts"],
            "window_end": min(found[-1]["ts"] + 2 * MINUTE, found[0]["ts"] + 10 * MINUTE),
            "orders": len(found),
            "bought": [order["order_id"] for order in found],
        }
        for found in made
        if len(found) > 2
    ]


def sliding(orders: list[Document]) -> list[Document]:
    made = []
    for order in purchases(orders):
        before = [
            one["amount"]
            for one in purchases(orders)
            if one["customer"] == order["customer"] and order["ts"] - 5 * MINUTE < one["ts"] <= order["ts"]
        ]
        if sum(before) > 900:
            known = {"customer": order["customer"], "order": order["order_id"], "at": order["ts"]}
            made.append({**known, "orders": len(before), "spent": round(sum(before), 2)})
    return made


def count(orders: list[Document]) -> list[Document]:
    made = []
    for channel in {order["channel"] for order in orders}:
        mine = [order for order in orders if order["channel"] == channel]
        for end in range(10, len(mine) + 10, 10):
            last = mine[max(0, end - 20) : end]
            made.append(
                {
                    "channel": channel,
                    "window_start": last[0]["ts"],
                    "window_end": last[-1]["ts"] + 1,
                    "orders": len(last),
                    "mean": round(sum(order["amount"] for order in last) / len(last), 6),
                }
            )
    return made


def sets(orders: list[Document]) -> list[Document]:
    found: dict[tuple[str | None, str | None, int], int] = {}
    for order in purchases(orders):
        at = order["ts"] // (60 * MINUTE)
        for key in ((None, None, at), (order["channel"], None, at), (order["channel"], order["country"], at)):
            found[key] = found.get(key, 0) + 1
    return [
        {
            "channel": channel,
            "country": country,
            "window_start": at * 60 * MINUTE,
            "window_end": (at + 1) * 60 * MINUTE,
            "orders": number,
        }
        for (channel, country, at), number in found.items()
        if number >= 10
    ]


def early(orders: list[Document]) -> list[Document]:
    made, due = [], None
    totals: dict[str, list[int]] = {}
    changed: set[str] = set()

    def given(country: str, *, final: bool) -> Document:
        orders, refunds = totals[country]
        return {"country": country, "window_final": final, "orders": orders, "refunds": refunds}

    for order in orders:
        if due is not None and order["ts"] >= due:
            made += [given(country, final=False) for country in changed]
            changed.clear()
        due = (order["ts"] // (10 * MINUTE) + 1) * 10 * MINUTE
        total = totals.setdefault(order["country"], [0, 0])
        total[0] += 1
        total[1] += order["type"] == "refund"
        changed.add(order["country"])
    made += [given(country, final=True) for country in totals]
    return [found for found in made if found["orders"] >= 20]


WINDOWS = {
    "window-tumbling": tumbling,
    "window-hopping": hopping,
    "window-session": session,
    "window-sliding": sliding,
    "window-count": count,
    "window-sets": sets,
    "window-early": early,
}
