"""The columns of rows beside their vectors: id, text, typed metadata, and conditions on them."""
