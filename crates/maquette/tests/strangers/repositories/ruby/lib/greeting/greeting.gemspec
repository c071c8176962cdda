Gem::Specification.new do |spec|
  spec.name = "greeting"
  spec.version = "1.0.0"
  spec.summary = "Says hello at every time of the day"
  spec.authors = ["The team"]
  spec.files = ["lib/greeting.rb"]
end
