"""Global directions: what style channels do to CLIP's embedding, and which of them a prompt moves."""
