"""The XTuner backend: its environment, the seed's configuration file, and the run. Imports nothing of XTuner."""
