"""Support for the tests: fixtures, servers, programs and chaos."""
