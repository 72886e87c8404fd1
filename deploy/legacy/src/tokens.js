// Who is calling, as their access token proves it. Nothing that the gateway says is believed.

import { createRemoteJWKSet, errors, jwtVerify } from "jose";

import { Problem, unauthenticated, unavailable } from "./problems.js";

// These prove something against the token. Anything else, such as auth being away, does not.
const REFUSED = new Set([
  "ERR_JWT_EXPIRED",
  "ERR_JWT_CLAIM_VALIDATION_FAILED",
  "ERR_JWT_INVALID",
  "ERR_JWS_INVALID",
  "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
  "ERR_JWKS_NO_MATCHING_KEY",
  "ERR_JOSE_ALG_NOT_ALLOWED",
  "ERR_JOSE_NOT_SUPPORTED",
]);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A middleware that lets callers pass whose token is good and has the scope. */
export function callersWith(scope, { jwksUrl, issuer, audience }) {
  // As long as at the gateway: a signing key that is withdrawn dies here within a minute, too.
  const keys = createRemoteJWKSet(jwksUrl, { cacheMaxAge: 60_000, cooldownDuration: 5_000, timeoutDuration: 2_000 });
  const rules = {
    issuer,
    audience,
    algorithms: ["ES256"],
    typ: "at+jwt",
    clockTolerance: 10,
    maxTokenAge: "20m",
    requiredClaims: ["exp", "iat", "sub", "jti", "scope"],
  };
  return async (request, response, next) => {
    request.caller = await identity(bearer(request), keys, rules, scope);
    next();
  };
}

function bearer(request) {
  const [, token] = /^Bearer ([A-Za-z0-9._-]{1,8192})$/i.exec(request.get("authorization") ?? "") ?? [];
  if (token === undefined) throw unauthenticated("Send an access token.");
  return token;
}

async function identity(token, keys, rules, scope) {
  const { sub, tier, scope: scopes, iat, exp } = await verified(token, keys, rules);
  // Auth makes none that lives longer, and the gateway lets none pass.
  if (exp - iat > 1200) throw unauthenticated("The access token lives too long.");
  if (typeof sub !== "string" || !UUID.test(sub)) throw unauthenticated("The access token names nobody.");
  if (!String(scopes).split(" ").includes(scope))
    throw new Problem(403, "scope_missing", `The access token lacks the scope ${scope}.`);
  return Object.freeze({ userId: sub, tier });
}

async function verified(token, keys, rules) {
  try {
    return (await jwtVerify(token, keys, rules)).payload;
  } catch (error) {
    if (error instanceof errors.JOSEError && REFUSED.has(error.code))
      throw unauthenticated("The access token is not valid.");
    throw unavailable("dependency_unavailable", "Tokens can't be checked at the moment.", 1);
  }
}
