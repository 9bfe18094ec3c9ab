wrk.method = "POST"
wrk.body = '{"name": "Hammer", "price": 12.5, "tags": ["tool", "steel"], "tax": 1.25}'
wrk.headers["content-type"] = "application/json"
