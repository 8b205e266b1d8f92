"""State of stages inside a chain: its names hold when stages come around them, and over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.inline_app import InlineApp

PIPELINE = """name: p
imports: [chains.yaml]
source: {log: {topic: in}}
stages:
- {id: users, from: source, chain: {name: totals, with: {by: user}}}
- {id: shops, from: source, chain: {name: totals, with: {by: shop}}}
sink: {from: [users, shops], log: {topic: out}}
"""
CHAINS = """chains:
  totals:
    parameters: {by: field}
    stages:
    - filter: amount > 0
    - aggregate: {by: $by, values: {total: sum(amount)}}
"""
# Another use before both, and other stages in the chain before the one that keeps state.
THIRD = "- {id: kinds, from: source, chain: {name: totals, with: {by: kind}}}"
LATER = PIPELINE.replace("stages:", f"stages:\n{THIRD}").replace("[users", "[kinds, users")
LATER_CHAINS = CHAINS.replace("- filter: amount > 0", "- filter: amount > -1\n    - filter: amount > 0")


def sale(user: str, shop: str, amount: int) -> dict[str, Any]:
    return {"user": user, "shop": shop, "amount": amount, "kind": "sale"}


async def test_totals_go_on_after_a_restart_when_other_stages_were_added(tmp_path: Path) -> None:
    app = InlineApp(tmp_path)

    async def totals_after(pipeline: str, chains: str, *sales: dict[str, Any]) -> dict[str, int]:
        (tmp_path / "chains.yaml").write_text(chains)
        await app.seed(list(sales))
        await app.run(pipeline)
        rows = await app.values()
        return {str(row.get("user") or row.get("shop") or row.get("kind")): row["total"] for row in rows}

    first = await totals_after(PIPELINE, CHAINS, sale("ada", "x", 1), sale("bob", "x", 2), sale("ada", "y", 4))
    assert first == {"ada": 5, "bob": 2, "x": 3, "y": 4}
    second = await totals_after(LATER, LATER_CHAINS, sale("ada", "y", 8))
    assert second == {"ada": 13, "bob": 2, "x": 3, "y": 12, "sale": 8}
