"""The stage of python-stage.yaml: points for purchases, doubled for customers who pay with the app."""

from __future__ import annotations

from streamd.record import Record


class Points:
    """Adds a field `points`; refunds take points away, and other records are dropped."""

    def __init__(self, per_euro: float, app_bonus: float = 2.0) -> None:
        self.per_euro = per_euro
        self.app_bonus = app_bonus

    def process(self, batch: list[Record]) -> list[Record]:
        kept = []
        for record in batch:
            order = record.value
            sign = {"purchase": 1, "refund": -1}.get(order["type"])
            if sign is None:
                continue
            bonus = self.app_bonus if order["channel"] == "app" else 1.0
            order["points"] = sign * round(order["amount"] * self.per_euro * bonus)
            kept.append(record)
        return kept
