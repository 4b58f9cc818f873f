"""The tasks under the prompt protocol of LLM-Adapters (Hu et al. 2023) and ReFT (Wu et al. 2024): one table."""
