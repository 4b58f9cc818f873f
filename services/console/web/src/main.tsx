import { render } from "preact";

import { App } from "./app";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/frame.css";
import "./styles/forms.css";
import "./styles/watch.css";
import "./styles/graph.css";
import "./styles/pages.css";

render(<App />, document.getElementById("app")!);
