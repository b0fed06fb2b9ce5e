// The tour, by a client that openapi-typescript generated from the OpenAPI 3.0.3 document: what does not fit the document does not
// compile, what the server answers is checked here. Usage: node built/tour.js URL
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Instance = components["schemas"]["Instance"];

const client = createClient<paths>({ baseUrl: process.argv[2]! });

function found<T>(answer: { data?: T; error?: unknown }): T {
  assert.ok(answer.data !== undefined, JSON.stringify(answer.error));
  return answer.data;
}

const versions = found(await client.GET("/v1/types/postgres/versions")).versions;
const version = versions.at(-1);
assert.ok(version, "an empty catalogue");

const body: components["schemas"]["InstanceCreate"] = {
  name: "generated",
  cpu: 1,
  ram: 512,
  disk_size: 8,
  nodes_number: 2,
  version: `/v1/types/postgres/versions/${version.uuid}`,
};
const instance = found(await client.POST("/v1/types/postgres/instances", { body })).uuid;
const at = { path: { instance } };
const user = found(
  await client.POST("/v1/types/postgres/instances/{instance}/users", {
    params: at,
    body: { name: "app", password: "correct horse" },
  }),
);
assert.equal(user.password_version, 1);
const database = found(
  await client.POST("/v1/types/postgres/instances/{instance}/databases", {
    params: at,
    body: { name: "shop", owner: `${user.instance}/users/${user.uuid}` },
  }),
);
assert.equal(database.instance, user.instance);

const active: Instance = found(
  await client.GET("/v1/types/postgres/instances/{instance}", {
    params: { ...at, query: { wait: "ACTIVE", timeout: "120s" } },
  }),
);
assert.equal(active.status, "ACTIVE", active.reason);
const nodes = found(await client.GET("/v1/types/postgres/instances/{instance}/nodes", { params: at })).nodes;
assert.deepEqual(nodes.map((node) => node.role).sort(), ["primary", "standby"]);
const connection = found(
  await client.GET("/v1/types/postgres/instances/{instance}/connection", {
    params: { ...at, query: { user: "app", database: "shop" } },
  }),
);
assert.match(connection.uri ?? "", /^postgresql:\/\/app@.*\/shop\?/);

// An error, as the document describes it.
const refused = await client.PATCH("/v1/types/postgres/instances/{instance}", { params: at, body: { disk_size: 1 } });
assert.equal(refused.response.status, 422);
assert.equal(refused.error?.code, 422);
assert.equal(refused.error?.errors?.[0]?.pointer, "/disk_size");

const gone = await client.DELETE("/v1/types/postgres/instances/{instance}", { params: at });
assert.equal(gone.response.status, 204);
for (;;) {
  const answer = await client.GET("/v1/types/postgres/instances/{instance}", { params: at });
  if (answer.response.status === 404) break;
  assert.equal(answer.data?.phase, "deleting");
  await new Promise((resolve) => setTimeout(resolve, 100));
}
console.log("the generated client took the tour");
