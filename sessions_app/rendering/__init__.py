"""Events as a person reads them."""
