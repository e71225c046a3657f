// Shows the service's OpenAPI document in Swagger UI. Requests that a reader tries go to this service.
SwaggerUIBundle({ url: "openapi.json", domNode: document.getElementById("api"), deepLinking: true, validatorUrl: null });
