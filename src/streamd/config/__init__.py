"""YAML with positions → models → checked configuration, or diagnostics. Reads files and nothing else.

`load` is the way in: `load_service`, `load_pipelines`, `load_pipeline_text`.
"""
