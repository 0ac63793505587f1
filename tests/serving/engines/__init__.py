"""Tests of serving/engines."""
