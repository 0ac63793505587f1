"""Tests of engines, gateway, chat and the command line."""
