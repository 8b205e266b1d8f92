"""Deciding what runs: graph, tasks, chains compiled to code, explain. Pure."""

from streamd.plan.graph import ChainPlan, PartPlan, PipelinePlan, build_plan

__all__ = ["ChainPlan", "PartPlan", "PipelinePlan", "build_plan"]
