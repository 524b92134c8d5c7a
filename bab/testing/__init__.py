"""Contract suites that plugin authors run in their own tests."""
