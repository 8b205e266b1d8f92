"""What the stage `transform` is made of: JSONPath, patches, merging, coercion, and the operations that use them."""
