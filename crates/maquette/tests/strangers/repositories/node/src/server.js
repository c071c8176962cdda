const http = require("node:http");
const { createClient } = require("redis");

const redis = createClient({ url: process.env.REDIS_URL });

async function page(request, response) {
  if (request.url !== "/") {
    response.writeHead(404).end();
    return;
  }
  const visits = await redis.incr("visits");
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end(`<h1>${process.env.TITLE}</h1>
<p>${process.env.GREETING}: visit ${visits} of the ${process.env.BUILD_LABEL} edition</p>`);
}

redis.connect().then(() => {
  http.createServer(page).listen(3000, () => console.log("listening"));
});
process.on("SIGTERM", () => process.exit(0));
