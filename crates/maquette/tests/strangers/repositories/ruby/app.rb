# Greets whoever visits.
require "socket"
require "greeting"

port = Integer(ENV.fetch("PORT", "4567"))
server = TCPServer.new("0.0.0.0", port)
puts "listening on #{port}"
$stdout.flush

loop do
  client = server.accept
  while (line = client.gets) && line != "\r\n"; end
  body = "<h1>#{Greeting.at(9)}</h1><p>Ruby #{RUBY_VERSION} at your service</p>"
  client.write "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}"
  client.close
end
