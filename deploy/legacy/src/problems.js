// Failures as the suite tells them: RFC 9457 problem documents with a stable `code`.

/** An expected failure, with the status that the outside is told. */
export class Problem extends Error {
  constructor(status, code, detail, { retryAfter } = {}) {
    super(detail);
    Object.assign(this, { status, code, detail, retryAfter });
  }
}

export const unauthenticated = (detail) => new Problem(401, "token_refused", detail);
export const unavailable = (code, detail, retryAfter) => new Problem(503, code, detail, { retryAfter });

/** Express finds it by its four parameters. */
export function tellProblem(error, request, response, next) {
  const problem = known(error);
  if (problem === undefined) request.log("request_failed", { error: error?.name });
  if (response.headersSent) return next(error);
  const { status, code, detail, retryAfter } =
    problem ?? new Problem(500, "internal_error", "Something went wrong on our side.");
  if (status === 401) response.set("WWW-Authenticate", 'Bearer error="invalid_token"');
  if (retryAfter !== undefined) response.set("Retry-After", String(retryAfter));
  const body = { type: `urn:companion:problem:${code}`, title: code.replaceAll("_", " "), status, detail, code };
  response.status(status).type("application/problem+json");
  response.send(JSON.stringify({ ...body, request_id: request.requestId }));
}

function known(error) {
  if (error instanceof Problem) return error;
  // The parser of bodies: too large, not JSON, an unknown charset or encoding.
  if (error?.type === "entity.too.large") return new Problem(413, "body_too_large", "The body is too large.");
  if (error?.status >= 400 && error.status < 500)
    return new Problem(422, "body_not_readable", "The body can't be read as JSON.");
  return undefined;
}
