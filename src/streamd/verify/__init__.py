"""`streamd verify`: a user's pipeline run twice, once undisturbed and once with everything killed, and compared."""
