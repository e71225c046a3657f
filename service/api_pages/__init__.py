"""The pages that describe the API, `/docs` and `/redoc`, without any file from another site."""
