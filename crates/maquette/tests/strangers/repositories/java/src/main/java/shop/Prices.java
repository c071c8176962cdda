package shop;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/** Says what things cost. */
public final class Prices {
    private static final Map<String, Integer> CENTS = new TreeMap<>(Map.of("tea", 250, "coffee", 320));

    private Prices() {}

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", exchange -> {
            StringBuilder page = new StringBuilder("<h1>Prices</h1><ul>");
            CENTS.forEach((name, cents) -> page.append(String.format("<li>%s: %d.%02d</li>", name, cents / 100, cents % 100)));
            byte[] body = page.append("</ul>").toString().getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "text/html");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
