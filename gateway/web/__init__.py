"""HTTP: the server of both ports, the public routes, the admin port, and the OpenAPI document."""
