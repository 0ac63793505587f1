"""Tests of serving/gateway."""
