"""InternLM (v1) folders as Llama-shaped ones that every engine of today loads. Runs none of the folder's code."""
