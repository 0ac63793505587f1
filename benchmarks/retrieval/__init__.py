"""Times searches of an index of any size, and of LangChain with Chroma as its tutorial has it, in one run."""
