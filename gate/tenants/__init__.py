"""Migrates the schemas of GATE_SCHEMAS, several at a time, each as `gate.migration` migrates one."""
