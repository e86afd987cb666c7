"""What a person does by hand with the running stack, or with a real project."""
