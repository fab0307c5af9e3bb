"""How both halves read a conversation: templates, rendering, generation, packaged models."""
