"""The OpenAPI document of both ports, made from their routes, and the page that shows it."""
